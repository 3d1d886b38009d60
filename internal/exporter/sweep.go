package exporter

import "time"

// sweepAfter is when a quota that a reload left without a tenant is of no
// interest any more: an hour after its last call, and a guard.
const sweepAfter = time.Hour + 2*time.Minute

// sweep forgets what tenants that are gone left behind. The caller holds apply.
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

// sweepAgain sweeps once more when the quotas that were left now are of no
// interest, unless the configuration is applied at that moment: that sweeps, too.
// The caller holds apply.
func (e *Exporter) sweepAgain() {
	if e.again != nil {
		e.again.Stop()
	}
	e.again = time.AfterFunc(sweepAfter, func() {
		if e.apply.TryLock() {
			defer e.apply.Unlock()
			e.sweep()
		}
	})
}
