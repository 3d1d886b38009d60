package exporter

import (
	"log/slog"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
)

// directoryKey is the storage key of the Entra tenant id that a tenant's stored
// values belong to.
const directoryKey = "directory"

// directory returns the Entra tenant id. A tenant of the configuration may keep
// its name and get another id; stored values must not survive that.
func (t *tenant) directory() string { return t.client.QuotaKey(client.Machines).TenantID }

// claimStore deletes the tenant's stored values if they belong to another Entra
// tenant. It keeps values without a recorded id, which earlier versions wrote. No
// collector of the tenant may be running.
func claimStore(s collector.Store, directory string, logger *slog.Logger) {
	var last string
	found, err := s.Load(directoryKey, &last)
	if found && err == nil && last == directory {
		return
	}
	if found && err == nil {
		keys, err := s.Keys("")
		if err != nil {
			logger.Warn("Listing stored values of another directory failed", "err", err)
			return
		}
		for _, key := range keys {
			_ = s.Delete(key) // The store logs it.
		}
		logger.Info("Deleted stored values of another directory", "values", len(keys))
	}
	_ = s.Save(directoryKey, directory) // The store logs it.
}
