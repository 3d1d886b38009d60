package exporter

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// TestNothingIsPublishedByACollectorThatWasStopped shortens the watch list by a
// reload while one fleet after the other is joined with it: no domain that left
// the list may come back.
func TestNothingIsPublishedByACollectorThatWasStopped(t *testing.T) {
	far := newFarEnd(t, simulation.Options{Machines: 500})
	var names []string
	for i := range 60 {
		name := fmt.Sprintf("d%03d.example", i)
		far.Contact(name, 400)
		names = append(names, name)
	}
	settings := func(domains ...string) string {
		return far.section("contoso", fmt.Sprintf(`  security_states: {refresh_interval: 1ms, max_age: 1h}
  watched_domains: {domains: [%s], refresh_interval: 1h, max_age: 3h}
  quota: {calls_per_minute: 100000, calls_per_hour: 100000}
`, strings.Join(domains, ", ")))
	}
	w := newWorld(t, nil, settings(names...))
	gone := fmt.Sprintf("domain=%q", names[0])
	cameBack := 0
	const tries = 5
	for range tries {
		eventually(t, "the domains are joined with the fleet", func() bool {
			return strings.Contains(strings.Join(w.tenantSeries("contoso"), " "), `mde_watched_domain_machines_attention{`+gone)
		})
		w.reload(settings(names[1:]...))
		eventually(t, "the new list is in force", func() bool {
			v, _ := w.value(`mde_watched_domains{tenant="contoso"}`)
			return v == float64(len(names)-1)
		})
		for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); {
			if v, _ := w.value(`mde_watched_domains{tenant="contoso"}`); v == float64(len(names)) {
				cameBack++
				break
			}
		}
		w.reload(settings(names...))
	}
	if cameBack > 0 {
		t.Errorf("a domain that left the list came back in %d of %d reloads", cameBack, tries)
	}
}
