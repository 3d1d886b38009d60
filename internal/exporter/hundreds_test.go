package exporter

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/config"
	"github.com/mde-exporter/mde_exporter/internal/servertest"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// inMemory returns a simulated tenant and the transport that reaches it without a
// network.
func inMemory(t *testing.T, o simulation.Options) (*simulatedTenant, func(string) http.RoundTripper) {
	t.Helper()
	simulated := simulation.New(o)
	server, err := simulated.Listen(simulation.ListenOptions{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return &simulatedTenant{simulated, server}, func(string) http.RoundTripper { return server.Transport() }
}

// sectionWithTenantID returns a section with another Entra tenant id, and
// therefore another quota, per index.
func (s *simulatedTenant) sectionWithTenantID(i int, name, settings string) string {
	return strings.Replace(s.section(name, settings), s.TenantID(), fmt.Sprintf("00000000-0000-4000-8000-%012d", i), 1)
}

// TestHundredsOfTenantsStartStaggeredAndIndependent runs 500 tenants, three of
// which fail, for 36 minutes of fake time.
func TestHundredsOfTenantsStartStaggeredAndIndependent(t *testing.T) {
	servertest.Slow(t)
	const tenants = 500
	synctest.Test(t, func(t *testing.T) {
		healthy, transport := inMemory(t, simulation.Options{MultiTenant: true, Machines: 5, Domains: map[string]simulation.Domain{"evil.example": {Machines: 3}}})
		failing := map[string]*simulatedTenant{}
		transports := map[string]func(string) http.RoundTripper{}
		for name, fault := range map[string]simulation.Fault{
			"t0007": {Hang: true},
			"t0100": {Status: http.StatusTooManyRequests, RetryAfter: "3600"},
			"t0300": {Status: http.StatusUnauthorized},
		} {
			failing[name], transports[name] = inMemory(t, simulation.Options{MultiTenant: true, Machines: 5})
			failing[name].Fail(simulation.Every, fault)
		}
		var file strings.Builder
		file.WriteString("tenants:")
		for i := range tenants {
			name := fmt.Sprintf("t%04d", i)
			sim := healthy
			if failing[name] != nil {
				sim = failing[name]
			}
			file.WriteString(sim.sectionWithTenantID(i, name, "  watched_domains: {domains: [evil.example]}\n"))
		}
		e := &testExporter{t: t, file: filepath.Join(t.TempDir(), "mde.yml")}
		if err := os.WriteFile(e.file, []byte(file.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		e.Exporter = New(Options{
			Load:     func() (*config.Config, error) { return config.Load(e.file, config.Overrides{}) },
			Registry: prometheus.NewRegistry(),
			Logger:   slog.New(slog.DiscardHandler),
			transport: func(tenant string) http.RoundTripper {
				if own := transports[tenant]; own != nil {
					return own(tenant)
				}
				return transport(tenant)
			},
		})
		defer e.Close()
		before := runtime.NumGoroutine()
		if err := e.Reload(); err != nil {
			t.Fatal(err)
		}

		time.Sleep(tenants * client.StartSpacing)
		synctest.Wait()
		refreshed := e.sums("mde_refresh_success")
		for i := range tenants {
			name := fmt.Sprintf("t%04d", i)
			if failing[name] == nil && refreshed[name] != 2 {
				t.Errorf("%s: %v of 2 collectors have succeeded once all have started", name, refreshed[name])
			}
		}
		// Each tenant gets two tokens, and ten tenants start per second.
		if n := healthy.Busiest(simulation.Token, time.Second); n > 2*11 {
			t.Errorf("%d token requests within a second", n)
		}

		// The count includes two goroutines of the simulated tenant per
		// connection. No connection is open between two refreshes.
		fewest := func(minutes int) int {
			fewest := runtime.NumGoroutine()
			for range minutes {
				time.Sleep(time.Minute)
				synctest.Wait()
				n := runtime.NumGoroutine()
				fewest = min(fewest, n)
				if perTenant := float64(n-before) / tenants; perTenant > 12 {
					t.Errorf("a tenant has %.1f goroutines", perTenant)
				}
			}
			return fewest
		}
		if first, second := fewest(15), fewest(20); second > first+tenants/10 {
			t.Errorf("%d goroutines became %d", first, second)
		}
		refreshes := e.sums("mde_refreshes_total")
		failures := e.sums("mde_refresh_failures_total")
		machines := e.sums("mde_machines")
		for i := range tenants {
			name := fmt.Sprintf("t%04d", i)
			switch {
			case failing[name] != nil && failures[name] == 0:
				t.Errorf("%s: nothing failed", name)
			case failing[name] == nil && (failures[name] > 0 || refreshes[name] < 3 || machines[name] != 5):
				t.Errorf("%s: %v refreshes, %v failures, %v machines", name, refreshes[name], failures[name], machines[name])
			}
		}
	})
}

// sums returns the sum of a family's series by tenant.
func (e *testExporter) sums(family string) map[string]float64 {
	e.t.Helper()
	families, err := e.Gatherer().Gather()
	if err != nil {
		e.t.Fatal(err)
	}
	sums := map[string]float64{}
	for _, f := range families {
		if f.GetName() != family {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "tenant" {
					sums[l.GetValue()] += m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
	}
	return sums
}
