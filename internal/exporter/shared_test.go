package exporter

import (
	"strings"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

func TestSharedValuesBelongToClient(t *testing.T) {
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10})
	e := newTestExporter(t, nil, sim.section("contoso", quickDomains))
	first := e.tenants["contoso"]
	e.reload(sim.section("contoso", quickDomains+"  security_states: {max_age: 2h}\n"))
	if second := e.tenants["contoso"]; second.client != first.client || second.shared != first.shared || second.runs[1] != first.runs[1] || second.runs[0] == first.runs[0] {
		t.Error("a reload with other states settings replaced more than the states' run")
	}
	e.reload(sim.section("contoso", quickDomains+"  quota: {calls_per_hour: 700}\n"))
	if third := e.tenants["contoso"]; third.client == first.client || third.shared == first.shared || third.runs[1] == first.runs[1] {
		t.Error("a new client shares values with the old one")
	}
}

// slowStore is a Store that loads security states only after the channel is
// closed.
type slowStore struct {
	collector.Store
	loaded chan struct{}
}

func (s slowStore) Load(key string, v any) (bool, error) {
	if key == "security_states" {
		<-s.loaded
	}
	return s.Store.Load(key, v)
}

func TestRestoredJoinIsNotExposedBeforeItsFleet(t *testing.T) {
	sim := newSimulatedTenant(t, simulation.Options{Machines: 30})
	sim.Contact("evil.example", 20)
	other := newSimulatedTenant(t, simulation.Options{}).section("other", "  watched_domains: {enabled: false}\n")
	e := newTestExporter(t, nil, other)
	stored := &collector.MemoryStore{}
	e.stores["contoso"] = stored
	exposed := func() (fleet, join bool) {
		series := strings.Join(e.tenantSeries("contoso"), "\n")
		return strings.Contains(series, "mde_machines{"), strings.Contains(series, "mde_watched_domain_machines_attention{")
	}
	e.reload(other, sim.section("contoso", quickDomains))
	eventually(t, "the fleet and the join are exposed", func() bool { fleet, join := exposed(); return fleet && join })
	e.reload(other)

	slow := slowStore{stored, make(chan struct{})}
	e.stores["contoso"] = slow
	e.reload(other, sim.section("contoso", quickDomains))
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if fleet, join := exposed(); join && !fleet {
			close(slow.loaded)
			t.Fatal("the join is exposed without the fleet")
		}
	}
	close(slow.loaded)
	eventually(t, "the fleet and the join are exposed again", func() bool { fleet, join := exposed(); return fleet && join })
}
