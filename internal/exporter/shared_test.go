package exporter

import (
	"testing"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

func TestWhatCollectorsShareBelongsToTheClient(t *testing.T) {
	far := newFarEnd(t, simulation.Options{Machines: 10})
	w := newWorld(t, nil, far.section("contoso", quickDomains))
	first := w.tenants["contoso"]
	w.reload(far.section("contoso", quickDomains+"  security_states: {max_age: 2h}\n"))
	if second := w.tenants["contoso"]; second.client != first.client || second.shared != first.shared || second.runs[1] != first.runs[1] || second.runs[0] == first.runs[0] {
		t.Error("a reload of the states changed more than their run")
	}
	w.reload(far.section("contoso", quickDomains+"  quota: {calls_per_hour: 700}\n"))
	if third := w.tenants["contoso"]; third.client == first.client || third.shared == first.shared || third.runs[1] == first.runs[1] {
		t.Error("another client shares values with the one before")
	}
}
