package exporter

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mde-exporter/mde_exporter/config"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// TestFleetAndJoinExpireTogether changes the settings of the states by a reload
// ten minutes after the fleet was read, while the API fails.
func TestFleetAndJoinExpireTogether(t *testing.T) {
	const domains = "  watched_domains: {domains: [evil.example], refresh_interval: 1h}\n"
	for name, tc := range map[string]struct {
		states string
		shown  bool
	}{
		"a lower max_age above the values' age": {"  security_states: {refresh_interval: 15m, max_age: 20m}\n", true},
		"another interval":                      {"  security_states: {refresh_interval: 20m, max_age: 1h}\n", true},
		"a lower max_age":                       {"  security_states: {refresh_interval: 1m, max_age: 5m}\n", false},
		"states disabled":                       {"  security_states: {enabled: false}\n", false},
		"a higher max_age":                      {"  security_states: {refresh_interval: 15m, max_age: 9h}\n", true},
		"another quota":                         {"  security_states: {refresh_interval: 15m, max_age: 1h}\n  quota: {calls_per_hour: 700}\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim, transport := inMemory(t, simulation.Options{
					Machines: 50, Domains: map[string]simulation.Domain{"evil.example": {Machines: 40}},
				})
				e := &testExporter{t: t, file: filepath.Join(t.TempDir(), "mde.yml")}
				if err := os.WriteFile(e.file, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				e.Exporter = New(Options{
					Load:      func() (*config.Config, error) { return config.Load(e.file, config.Overrides{}) },
					Registry:  prometheus.NewRegistry(),
					Logger:    slog.New(slog.DiscardHandler),
					transport: transport,
				})
				defer e.Close()
				shown := func() (fleet, join, domain bool) {
					series := strings.Join(e.tenantSeries("contoso"), "\n")
					return strings.Contains(series, "mde_machines{"), strings.Contains(series, "mde_watched_domain_machines_attention{"),
						strings.Contains(series, "mde_watched_domain_machines{")
				}
				e.reload(sim.section("contoso", domains+"  security_states: {refresh_interval: 15m, max_age: 1h}\n"))
				time.Sleep(10 * time.Minute)
				if fleet, join, domain := shown(); !fleet || !join || !domain {
					t.Fatalf("before the reload: fleet %v, join %v, domain %v", fleet, join, domain)
				}
				queried := sim.Count(simulation.DomainMachines)
				sim.Fail(simulation.MachineSecurityStates, simulation.Fault{Status: http.StatusInternalServerError})

				e.reload(sim.section("contoso", domains+tc.states))
				synctest.Wait()
				if fleet, join, domain := shown(); fleet != tc.shown || join != tc.shown || !domain {
					t.Errorf("fleet %v, join %v, domain %v; want %v, %v, true", fleet, join, domain, tc.shown, tc.shown)
				}
				time.Sleep(time.Minute)
				if n := sim.Count(simulation.DomainMachines); n != queried {
					t.Errorf("the reload of the states made %d calls for domains", n-queried)
				}
				time.Sleep(50 * time.Minute)
				if fleet, join, _ := shown(); fleet != join || fleet != (name == "a higher max_age") {
					t.Errorf("an hour after the fleet was read: fleet %v, join %v", fleet, join)
				}
			})
		})
	}
}
