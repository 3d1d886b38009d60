package exporter

import (
	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/config"
	"github.com/mde-exporter/mde_exporter/internal/storage"
)

// newQuotas returns the call quotas of the process. A quota belongs to an app
// registration, so it survives reloads and renamed tenants, and with storage also
// restarts.
func newQuotas(s *storage.Storage) *client.Quotas {
	if s == nil {
		return client.NewQuotas(nil)
	}
	return client.NewQuotas(func(key client.QuotaKey) client.Ledger { return s.Ledger(key.String()) })
}

// applyQuotas registers the limits of the tenants in force, in addition to those
// of tenants that still run. Calls that version 0.1 stored by tenant name are
// added to that tenant's quota.
func (e *Exporter) applyQuotas(c *config.Config, tenants map[string]*tenant) {
	if s := e.options.Storage; s != nil {
		for _, tc := range c.Tenants {
			for _, api := range client.PacedAPIs() {
				s.Ledger(tenants[tc.Name].client.QuotaKey(api).String()).Inherit(api, tc.Name)
			}
		}
	}
	for _, tc := range c.Tenants {
		tenants[tc.Name].client.JoinQuotas()
	}
}

// closeClients closes the clients of stopped tenants that the next tenants do not
// reuse. All of these tenants must have stopped. Otherwise removing a smaller
// limit would allow extra calls to a tenant that is about to stop.
func (e *Exporter) closeClients(stopped, next map[string]*tenant) {
	for name, t := range stopped {
		if n := next[name]; n == nil || n.client != t.client {
			t.client.Close()
		}
	}
}
