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
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// inMemory serves a far end without a network.
func inMemory(t *testing.T, o simulation.Options) (*farEnd, func(string) http.RoundTripper) {
	t.Helper()
	simulated := simulation.New(o)
	server, err := simulated.Listen(simulation.ListenOptions{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return &farEnd{simulated, server}, func(string) http.RoundTripper { return server.Transport() }
}

// sectionOf is a section with a tenant id of its own, and so with a quota of its own.
func (f *farEnd) sectionOf(i int, name, settings string) string {
	return strings.Replace(f.section(name, settings), f.TenantID(), fmt.Sprintf("00000000-0000-4000-8000-%012d", i), 1)
}

// TestHundredsOfTenantsStartSpreadOutAndStayApart runs 500 tenants, of which
// three are in trouble, for 36 minutes of fake time.
func TestHundredsOfTenantsStartSpreadOutAndStayApart(t *testing.T) {
	const tenants = 500
	synctest.Test(t, func(t *testing.T) {
		well, transport := inMemory(t, simulation.Options{MultiTenant: true, Machines: 5, Domains: map[string]simulation.Domain{"evil.example": {Machines: 3}}})
		far := map[string]*farEnd{}
		transports := map[string]func(string) http.RoundTripper{}
		for name, fault := range map[string]simulation.Fault{
			"t0007": {Hang: true},
			"t0100": {Status: http.StatusTooManyRequests, RetryAfter: "3600"},
			"t0300": {Status: http.StatusUnauthorized},
		} {
			far[name], transports[name] = inMemory(t, simulation.Options{MultiTenant: true, Machines: 5})
			far[name].Fail(simulation.Every, fault)
		}
		var file strings.Builder
		file.WriteString("tenants:")
		for i := range tenants {
			name := fmt.Sprintf("t%04d", i)
			end := well
			if far[name] != nil {
				end = far[name]
			}
			file.WriteString(end.sectionOf(i, name, "  watched_domains: {domains: [evil.example]}\n"))
		}
		w := &world{t: t, file: filepath.Join(t.TempDir(), "mde.yml")}
		if err := os.WriteFile(w.file, []byte(file.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		w.Exporter = New(Options{
			Load:     func() (*config.Config, error) { return config.Load(w.file, config.Overrides{}) },
			Registry: prometheus.NewRegistry(),
			Logger:   slog.New(slog.DiscardHandler),
			transport: func(tenant string) http.RoundTripper {
				if own := transports[tenant]; own != nil {
					return own(tenant)
				}
				return transport(tenant)
			},
		})
		defer w.Close()
		before := runtime.NumGoroutine()
		if err := w.Reload(); err != nil {
			t.Fatal(err)
		}

		time.Sleep(tenants * client.StartSpacing)
		synctest.Wait()
		refreshed := w.sums("mde_refresh_success")
		for i := range tenants {
			name := fmt.Sprintf("t%04d", i)
			if far[name] == nil && refreshed[name] != 2 {
				t.Errorf("%s: %v of 2 collectors have succeeded once all have started", name, refreshed[name])
			}
		}
		// Each tenant gets two tokens; a second sees the starts of ten.
		if n := well.Busiest(simulation.Token, time.Second); n > 2*11 {
			t.Errorf("%d tokens were asked for within a second", n)
		}

		// The far end's goroutines are among them: two of each connection. Between
		// two refreshes no connection is left.
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
		refreshes := w.sums("mde_refreshes_total")
		failures := w.sums("mde_refresh_failures_total")
		machines := w.sums("mde_machines")
		for i := range tenants {
			name := fmt.Sprintf("t%04d", i)
			switch {
			case far[name] != nil && failures[name] == 0:
				t.Errorf("%s: nothing failed", name)
			case far[name] == nil && (failures[name] > 0 || refreshes[name] < 3 || machines[name] != 5):
				t.Errorf("%s: %v refreshes, %v failures, %v machines", name, refreshes[name], failures[name], machines[name])
			}
		}
	})
}

// sums adds up the series of a family, by tenant.
func (w *world) sums(family string) map[string]float64 {
	w.t.Helper()
	families, err := w.Gatherer().Gather()
	if err != nil {
		w.t.Fatal(err)
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
