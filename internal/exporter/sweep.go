package exporter

import "time"

// sweepAfter is the time from a reload until the quota of a removed tenant has
// expired: the longest window of one hour plus a margin.
const sweepAfter = time.Hour + 2*time.Minute

// sweep removes the quotas and stored files of tenants that are no longer
// configured. The caller holds e.apply.
func (e *Exporter) sweep() {
	keys := e.quotas.Sweep()
	s := e.options.Storage
	if s == nil {
		return
	}
	var tenants, owners []string
	for _, tc := range e.config.Tenants {
		tenants = append(tenants, tc.Name)
	}
	for _, key := range keys {
		owners = append(owners, key.String())
	}
	s.Sweep(tenants, owners)
}

// scheduleSweep sweeps again after sweepAfter, when the quotas of removed tenants
// have expired. It skips the sweep if a configuration is being applied then,
// because a reload sweeps too. The caller holds e.apply.
func (e *Exporter) scheduleSweep() {
	if e.sweepTimer != nil {
		e.sweepTimer.Stop()
	}
	e.sweepTimer = time.AfterFunc(sweepAfter, func() {
		if e.apply.TryLock() {
			defer e.apply.Unlock()
			e.sweep()
		}
	})
}
