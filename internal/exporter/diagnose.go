package exporter

import (
	"context"
	"fmt"
	"sync"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/config"
)

// Diagnose loads the configuration and tries, for each of its tenants, the
// tokens and the smallest call of each API. Nothing is started.
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
		defer t.discard(nil)
		if err := e.connect(t, nil); err != nil {
			return nil, fmt.Errorf("tenant %s: %w", tc.Name, err)
		}
		wg.Go(func() {
			diagnoses[i] = client.Diagnosis{Tenant: tc.Name, Checks: t.client.Diagnose(ctx, needs(tc)...)}
		})
	}
	wg.Wait()
	return diagnoses, ctx.Err()
}

// needs are the APIs that a tenant's configuration cannot do without.
func needs(t *config.Tenant) []client.Need {
	var needs []client.Need
	if t.SecurityStates.Enabled {
		switch t.SecurityStates.Source {
		case config.SourceMachineSecurityStates:
			needs = append(needs, client.Need{client.MachineSecurityStates})
		case config.SourceMachines:
			needs = append(needs, client.Need{client.Machines}, client.Need{client.DeviceAVInfo})
		default:
			needs = append(needs,
				client.Need{client.MachineSecurityStates, client.Machines},
				client.Need{client.MachineSecurityStates, client.DeviceAVInfo})
		}
	}
	if t.WatchedDomains.Enabled {
		needs = append(needs, client.Need{client.DomainMachines})
		if t.WatchedDomains.Statistics {
			needs = append(needs, client.Need{client.DomainStats})
		}
	}
	return needs
}
