package exporter

import (
	"log/slog"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
)

// directoryKey is where a tenant's values say which directory they are of.
const directoryKey = "directory"

// directory is the tenant id: values of one directory are not those of another,
// even where a tenant of the configuration keeps its name.
func (t *tenant) directory() string { return t.client.QuotaKey(client.Machines).TenantID }

// claimStore deletes what is stored of another directory under the tenant's name.
// Values of which no directory is known, as of an earlier version, stay. Nothing
// of the tenant runs.
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
		}
		for _, key := range keys {
			_ = s.Delete(key) // The store logs it.
		}
		logger.Info("Deleted stored values of another directory", "values", len(keys))
	}
	_ = s.Save(directoryKey, directory) // The store logs it.
}
