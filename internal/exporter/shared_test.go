package exporter

import (
	"testing"

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
