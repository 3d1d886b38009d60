package exporter

import (
	"context"
	"sync"

	"github.com/mde-exporter/mde_exporter/client"
)

// Diagnose loads the configuration and checks each tenant: it gets each token and
// makes the smallest call of each API. It starts no collector.
func (e *Exporter) Diagnose(ctx context.Context) ([]client.Diagnosis, error) {
	e.apply.Lock()
	defer e.apply.Unlock()
	c, err := e.options.Load()
	if err != nil {
		return nil, err
	}
	diagnoses := make([]client.Diagnosis, len(c.Tenants))
	var wg sync.WaitGroup
	for i, tc := range c.Tenants {
		t := &tenant{config: tc, metrics: e.metrics.Tenant(tc.Name)}
		if err := e.connect(t, nil); err != nil {
			diagnoses[i] = client.Diagnosis{Tenant: tc.Name, Checks: []client.Check{{Name: "configuration", Result: client.Missing, Found: err.Error()}}}
			continue
		}
		defer t.client.Close()
		var needs []client.Need
		for _, c := range tc.All() {
			if c.Common().Enabled {
				needs = append(needs, c.Needs()...)
			}
		}
		wg.Go(func() {
			diagnoses[i] = client.Diagnosis{Tenant: tc.Name, Checks: t.client.Diagnose(ctx, needs...)}
		})
	}
	wg.Wait()
	return diagnoses, ctx.Err()
}
