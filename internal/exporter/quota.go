package exporter

import (
	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/config"
	"github.com/mde-exporter/mde_exporter/internal/storage"
)

// newQuotas returns the call quotas of the process. They belong to app
// registrations, so they outlive reloads and the names of tenants, and with
// storage the process.
func newQuotas(s *storage.Storage) *client.Quotas {
	if s == nil {
		return client.NewQuotas(nil)
	}
	return client.NewQuotas(func(key client.QuotaKey) client.Ledger { return s.Ledger(key.String()) })
}

// takeQuotas puts the limits of the tenants in force, beside those of the tenants
// that still run. Calls that an earlier version stored under the name of a tenant
// count for its quota.
func (e *Exporter) takeQuotas(c *config.Config, tenants map[string]*tenant) {
	if s := e.options.Storage; s != nil {
		for _, tc := range c.Tenants {
			for _, api := range client.PacedAPIs() {
				s.Ledger(tenants[tc.Name].client.QuotaKey(api).String()).Inherit(api, tc.Name)
			}
		}
	}
	for _, tc := range c.Tenants {
		tenants[tc.Name].client.TakePart()
	}
}

// leaveQuotas closes the clients of tenants that have stopped, unless the next
// ones go on with them. All of them have stopped: a smaller limit that is gone
// frees no call of another tenant that is about to stop.
func (e *Exporter) leaveQuotas(stopped, next map[string]*tenant) {
	for name, t := range stopped {
		if n := next[name]; n == nil || n.client != t.client {
			t.client.Close()
		}
	}
}
