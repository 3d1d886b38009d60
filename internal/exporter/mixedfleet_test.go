package exporter

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mde-exporter/mde_exporter/config"
	"github.com/mde-exporter/mde_exporter/internal/mixedfleet"
	"github.com/mde-exporter/mde_exporter/internal/servertest"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// TestMixedFleetHas33HealthyAndSevenFailingTenants runs the exporter with the
// mixed fleet's configuration for two minutes of fake time.
func TestMixedFleetHas33HealthyAndSevenFailingTenants(t *testing.T) {
	servertest.Slow(t)
	synctest.Test(t, func(t *testing.T) {
		fleet, err := mixedfleet.Start(simulation.ListenOptions{InMemory: true})
		if err != nil {
			t.Fatal(err)
		}
		defer fleet.Close()
		transports := map[string]http.RoundTripper{}
		for _, tenant := range fleet {
			transport := tenant.Server.Transport()
			defer transport.CloseIdleConnections()
			transports[tenant.Name] = transport
		}
		e := &testExporter{t: t, file: filepath.Join(t.TempDir(), "mde.yml")}
		if err := os.WriteFile(e.file, []byte(fleet.Configuration()), 0o600); err != nil {
			t.Fatal(err)
		}
		e.Exporter = New(Options{
			Load:      func() (*config.Config, error) { return config.Load(e.file, config.Overrides{}) },
			Registry:  prometheus.NewRegistry(),
			Logger:    slog.New(slog.DiscardHandler),
			transport: func(tenant string) http.RoundTripper { return transports[tenant] },
		})
		defer e.Close()
		if err := e.Reload(); err != nil {
			t.Fatal(err)
		}

		time.Sleep(2 * time.Minute)
		synctest.Wait()
		machines := e.sums("mde_machines")
		counts := map[bool]int{}
		for _, tenant := range fleet {
			counts[tenant.Healthy]++
			state, read := e.value(fmt.Sprintf("mde_refresh_success{collector=%q,tenant=%q}", "security_states", tenant.Name))
			_, once := e.value(fmt.Sprintf("mde_refresh_last_success_timestamp_seconds{collector=%q,tenant=%q}", "security_states", tenant.Name))
			domains, domainsRead := e.value(fmt.Sprintf("mde_refresh_success{collector=%q,tenant=%q}", "watched_domains", tenant.Name))
			t.Logf("%-42s states %v (read %v, once %v, %v machines), domains %v (read %v)",
				tenant.Name, state, read, once, machines[tenant.Name], domains, domainsRead)
			switch {
			case tenant.Healthy && (state != 1 || machines[tenant.Name] == 0):
				t.Errorf("%s: success is %v, with %v machines", tenant.Name, state, machines[tenant.Name])
			case tenant.Healthy && domainsRead && domains != 1:
				t.Errorf("%s: success of the watched domains is %v", tenant.Name, domains)
			case !tenant.Healthy && (!read || state != 0):
				t.Errorf("%s: success is %v, with %v machines", tenant.Name, state, machines[tenant.Name])
			}
		}
		if counts[true] != 33 || counts[false] != 7 {
			t.Errorf("%d healthy and %d failing tenants", counts[true], counts[false])
		}
	})
}
