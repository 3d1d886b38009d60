package simulation

import (
	"cmp"
	"strconv"
)

// Group is an OS build and an architecture. Missing values are "unknown".
type Group struct {
	Build, Architecture string
}

// Tally contains the counts that the exporter should return. It is counted
// directly from the machines, without writing or parsing a response.
type Tally struct {
	// Total is the number of machines with a security state.
	Total               int
	Machines            map[Group]int
	Attention           map[Group]map[string]int // by property
	RequiringAttention  map[Group]int
	Health              map[string]int
	Risk                map[string]int // null counts as "None"
	Exposure            map[string]int // null counts as "None"
	Platform            map[string]int
	PropertyTotals      map[string]int
	TotalNeedsAttention int
}

// Tally returns the counts of the view's fleet.
func (v View) Tally() Tally {
	t := Tally{
		Machines: map[Group]int{}, Attention: map[Group]map[string]int{}, RequiringAttention: map[Group]int{},
		Health: map[string]int{}, Risk: map[string]int{}, Exposure: map[string]int{}, Platform: map[string]int{},
		PropertyTotals: map[string]int{},
	}
	for m := range v.Machines() {
		g := groupOf(m)
		t.Total++
		t.Machines[g]++
		t.Health[m.Health]++
		t.Risk[cmp.Or(m.Risk, "None")]++
		t.Exposure[cmp.Or(m.Exposure, "None")]++
		t.Platform[m.Platform]++
		properties := m.Properties()
		if len(properties) == 0 {
			continue
		}
		t.TotalNeedsAttention++
		t.RequiringAttention[g]++
		for property := range setOf(properties, true) {
			if t.Attention[g] == nil {
				t.Attention[g] = map[string]int{}
			}
			t.Attention[g][property]++
			t.PropertyTotals[property]++
		}
	}
	return t
}

// DomainTally contains the counts of the machines in a response for a domain.
type DomainTally struct {
	// Machines is at most DomainMachinesLimit. Prevalence is unlimited.
	Machines, Prevalence int
	Truncated            bool
	Attention            map[string]int // by property
	Risk                 map[string]int // null counts as "None"
}

// DomainTally returns the counts of the machines that contacted a domain.
func (v View) DomainTally(name string) DomainTally {
	t := DomainTally{Prevalence: v.prevalence(name), Attention: map[string]int{}, Risk: map[string]int{}}
	for m := range v.Contacted(name) {
		t.Machines++
		t.Risk[cmp.Or(m.Risk, "None")]++
		for property := range setOf(m.Properties(), true) {
			t.Attention[property]++
		}
		if t.Machines == DomainMachinesLimit {
			t.Truncated = true
			break
		}
	}
	return t
}

func groupOf(m *Machine) Group {
	g := Group{Build: "unknown", Architecture: cmp.Or(m.Architecture, "unknown")}
	if m.Build != 0 {
		g.Build = strconv.Itoa(m.Build)
	}
	return g
}
