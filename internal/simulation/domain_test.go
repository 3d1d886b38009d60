package simulation_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

func TestDomainResponsesAreLimitedTo500Machines(t *testing.T) {
	for _, c := range []struct {
		contacted, rows int
		truncated       bool
	}{{0, 0, false}, {1, 1, false}, {499, 499, false}, {500, 500, true}, {700, 500, true}, {5000, 500, true}} {
		t.Run(fmt.Sprint(c.contacted), func(t *testing.T) {
			f := serve(t, simulation.Options{Machines: 1000}, simulation.ListenOptions{})
			f.Contact("evil.example", c.contacted)
			all := idsOf(t, f.api(t, "/api/domains/evil.example/machines"))
			if len(all) != c.rows || countDistinct(all) != c.rows {
				t.Errorf("%d rows", len(all))
			}
			tally := f.Now().DomainTally("evil.example")
			if tally.Machines != c.rows || tally.Truncated != c.truncated || tally.Prevalence != min(c.contacted, 1000) {
				t.Errorf("%+v", tally)
			}
			stats := f.api(t, "/api/domains/evil.example/stats?lookBackHours=720").object(t)
			if stats["organizationPrevalence"] != float64(min(c.contacted, 1000)) || stats["host"] != "evil.example" {
				t.Errorf("%v", stats)
			}
			if seen := stats["orgLastSeen"] != nil; seen != (c.contacted > 0) {
				t.Errorf("orgLastSeen %v", stats["orgLastSeen"])
			}
		})
	}
}

func TestDomainMachinesJoinWithTheFleet(t *testing.T) {
	f := serve(t, simulation.Options{Machines: 1000}, simulation.ListenOptions{})
	f.Contact("evil.example", 300)
	f.Outage(simulation.EdrInactive, 19045, 1)
	preview, _ := f.allStates(t)
	properties := map[string][]any{}
	for _, row := range preview {
		properties[row["id"].(string)] = row["propertiesRequireAttention"].([]any)
	}
	attention, risk := map[string]int{}, map[string]int{}
	for _, row := range rows(t, f.api(t, "/api/domains/evil.example/machines")) {
		require, ok := properties[row["id"].(string)]
		if !ok {
			t.Fatalf("%v is not in the fleet", row["id"])
		}
		for _, p := range require {
			attention[p.(string)]++
		}
		risk[textOr(row["riskScore"], "None")]++
	}
	want := f.Now().DomainTally("evil.example")
	if diff := cmp.Diff(want.Attention, attention); diff != "" || attention[simulation.EdrInactive] == 0 {
		t.Errorf("%v %s", attention, diff)
	}
	if diff := cmp.Diff(want.Risk, risk); diff != "" {
		t.Error(diff)
	}
}

func TestContactedMachinesStayWhenOthersJoin(t *testing.T) {
	f := serve(t, simulation.Options{Machines: 1000}, simulation.ListenOptions{})
	contacted := func(n int) map[string]bool {
		f.Contact("evil.example", n)
		set := map[string]bool{}
		for m := range f.Now().Contacted("evil.example") {
			set[m.ID()] = true
		}
		return set
	}
	few, more := contacted(10), contacted(20)
	f.SetMachines(1010)
	larger := contacted(20)
	for id := range few {
		if !more[id] {
			t.Errorf("%s is missing", id)
		}
	}
	stayed := 0
	for id := range more {
		if larger[id] {
			stayed++
		}
	}
	if stayed < 18 {
		t.Errorf("%d of 20 stayed after the fleet grew by 1%%", stayed)
	}
}

func TestUnknownDomains(t *testing.T) {
	f := serve(t, simulation.Options{}, simulation.ListenOptions{})
	if n := len(rows(t, f.api(t, "/api/domains/never.example/machines"))); n != 0 {
		t.Errorf("%d rows", n)
	}
	old := serve(t, simulation.Options{UnknownDomain404: true, StatsAsStrings: true, Domains: map[string]simulation.Domain{"evil.example": {Machines: 7}}}, simulation.ListenOptions{})
	if a := old.api(t, "/api/domains/never.example/machines"); a.status != http.StatusNotFound || errorCode(t, a) != "ResourceNotFound" {
		t.Errorf("%d %s", a.status, a.body)
	}
	stats := old.api(t, "/api/domains/evil.example/stats").object(t)
	if stats["orgPrevalence"] != "7" || stats["organizationPrevalence"] != nil {
		t.Errorf("%v", stats)
	}
}

func TestInvalidDomainNamesAreRejected(t *testing.T) {
	f := serve(t, simulation.Options{}, simulation.ListenOptions{})
	for name, status := range map[string]int{
		"evil.example": 200, "xn--bcher-kva.example": 200, "a_b.example": 200, "EVIL.example": 200,
		"localhost": 400, "192.0.2.1": 400, "a..example": 400, "-a.example": 400, "a%20b.example": 400, "*.example": 400,
		strings.Repeat("a", 64) + ".example": 400,
	} {
		a := f.api(t, "/api/domains/"+name+"/machines")
		if a.status != status || status == 400 && errorCode(t, a) != "InvalidDomainName" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := f.api(t, "/api/domains/evil.example/stats?lookBackHours=721"); a.status != 400 {
		t.Errorf("%d", a.status)
	}
}
