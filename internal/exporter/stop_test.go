package exporter

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// TestStoppedCollectorPublishesNothing shortens the watch list by a reload while
// every new fleet is joined with it. A removed domain must not reappear.
func TestStoppedCollectorPublishesNothing(t *testing.T) {
	sim := newSimulatedTenant(t, simulation.Options{Machines: 500})
	var names []string
	for i := range 60 {
		name := fmt.Sprintf("d%03d.example", i)
		sim.Contact(name, 400)
		names = append(names, name)
	}
	settings := func(domains ...string) string {
		return sim.section("contoso", fmt.Sprintf(`  security_states: {refresh_interval: 1ms, max_age: 1h}
  watched_domains: {domains: [%s], refresh_interval: 1h, max_age: 3h}
  quota: {calls_per_minute: 100000, calls_per_hour: 100000}
`, strings.Join(domains, ", ")))
	}
	e := newTestExporter(t, nil, settings(names...))
	removed := fmt.Sprintf("domain=%q", names[0])
	reappeared := 0
	const tries = 5
	for range tries {
		eventually(t, "the domains are joined with the fleet", func() bool {
			return strings.Contains(strings.Join(e.tenantSeries("contoso"), " "), `mde_watched_domain_machines_attention{`+removed)
		})
		e.reload(settings(names[1:]...))
		eventually(t, "the new list is in force", func() bool {
			v, _ := e.value(`mde_watched_domains{tenant="contoso"}`)
			return v == float64(len(names)-1)
		})
		for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); {
			if v, _ := e.value(`mde_watched_domains{tenant="contoso"}`); v == float64(len(names)) {
				reappeared++
				break
			}
		}
		e.reload(settings(names...))
	}
	if reappeared > 0 {
		t.Errorf("a removed domain reappeared in %d of %d reloads", reappeared, tries)
	}
}
