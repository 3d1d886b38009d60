package simulation_test

import (
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// share returns the share of a build's machines that have a property.
func share(v simulation.View, build int, property string) float64 {
	all, having := 0, 0
	for m := range v.Machines() {
		if m.Build != build {
			continue
		}
		all++
		if slices.Contains(m.Properties(), property) {
			having++
		}
	}
	return float64(having) / float64(all)
}

func builds(v simulation.View) map[int]int {
	count := map[int]int{}
	for m := range v.Machines() {
		count[m.Build]++
	}
	return count
}

// runDemo calls f with the demo's tenant and a function that returns its fleet at
// a time of the story.
func runDemo(t *testing.T, f func(tenant *simulation.Tenant, at func(time.Duration) simulation.View)) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		start := time.Now()
		tenant := simulation.New(simulation.Demo())
		f(tenant, func(since time.Duration) simulation.View {
			time.Sleep(since - time.Since(start))
			return tenant.Now()
		})
	})
}

func TestDemoStartsWithRealisticFleet(t *testing.T) {
	runDemo(t, func(_ *simulation.Tenant, at func(time.Duration) simulation.View) {
		tally := at(0).Tally()
		if tally.Total < 4000 || tally.Total > 4400 {
			t.Errorf("%d machines", tally.Total)
		}
		if n := tally.TotalNeedsAttention * 100 / tally.Total; n < 5 || n > 20 {
			t.Errorf("%d%% require attention", n)
		}
		architectures := map[string]int{}
		for group, n := range tally.Machines {
			architectures[group.Architecture] += n
		}
		if architectures["Amd64"] < 3800 || architectures["Arm64"] < 50 || architectures["X86"] < 10 || architectures["unknown"] > 40 {
			t.Errorf("%v", architectures)
		}
		for _, platform := range []string{"Windows10", "Windows11", "WindowsServer2022", "macOS", "Ubuntu"} {
			if tally.Platform[platform] == 0 {
				t.Errorf("no %s", platform)
			}
		}
		if len(tally.PropertyTotals) != 8 {
			t.Errorf("%v", tally.PropertyTotals)
		}
	})
}

func TestDemoFollowsStory(t *testing.T) {
	runDemo(t, func(_ *simulation.Tenant, at func(time.Duration) simulation.View) {
		begin := at(0)
		if s := share(begin, 19045, simulation.AntivirusNotReporting); s < 0.01 || s > 0.04 {
			t.Errorf("%.3f of build 19045 do not report at the start", s)
		}
		if n := begin.DomainTally(simulation.DemoSuspectedDomain).Machines; n != 0 {
			t.Errorf("%d machines contacted the suspected domain too early", n)
		}

		minute := at(time.Minute)
		if n := minute.DomainTally(simulation.DemoSuspectedDomain).Machines; n == 0 {
			t.Error("no machine contacted the suspected domain within a minute")
		}
		if maps.Equal(builds(begin), builds(minute)) {
			t.Error("no build changed within a minute")
		}

		outage := at(4 * time.Minute)
		if s := share(outage, 19045, simulation.AntivirusNotReporting); s < 0.27 || s > 0.36 {
			t.Errorf("%.3f of build 19045 do not report during the outage", s)
		}
		if s := share(outage, 20348, simulation.AntivirusNotReporting); s > 0.06 {
			t.Errorf("%.3f of another build do not report", s)
		}

		later := at(14 * time.Minute)
		if s := share(later, 19045, simulation.AntivirusNotReporting); s > 0.04 {
			t.Errorf("%.3f of build 19045 do not report after the outage", s)
		}
		if before, after := builds(begin)[26100], builds(later)[26100]; after < 2*before {
			t.Errorf("%d machines with build 26100, then %d", before, after)
		}
		if d := later.DomainTally(simulation.DemoSuspectedDomain); d.Machines < 100 || d.Truncated || len(d.Attention) < 2 {
			t.Errorf("%+v", d)
		}
		if a, b := begin.Tally().PropertyTotals, later.Tally().PropertyTotals; b[simulation.EdrImpairedCommunications] < a[simulation.EdrImpairedCommunications]+40 {
			t.Errorf("EDR did not drift: %v, then %v", a, b)
		}

		left := map[string]bool{}
		for m := range begin.Machines() {
			left[m.ID()] = true
		}
		for m := range later.Machines() {
			delete(left, m.ID())
		}
		if len(left) < 50 || len(left) > 200 {
			t.Errorf("%d machines left within 14 minutes", len(left))
		}
	})
}

func TestDemoHasDomainsOfEveryKind(t *testing.T) {
	runDemo(t, func(_ *simulation.Tenant, at func(time.Duration) simulation.View) {
		v := at(2 * time.Minute)
		kinds := map[string]int{}
		for _, name := range simulation.DemoDomains() {
			switch d := v.DomainTally(name); {
			case d.Truncated && d.Prevalence > 1000:
				kinds["widespread"]++
			case d.Machines > 0:
				kinds["contacted"]++
			default:
				kinds["never contacted"]++
			}
		}
		if diff := cmp.Diff(map[string]int{"widespread": 1, "contacted": 3, "never contacted": 4}, kinds); diff != "" {
			t.Error(diff)
		}
	})
}

func TestDemoIsDeterministic(t *testing.T) {
	var tallies []simulation.Tally
	for range 2 {
		runDemo(t, func(_ *simulation.Tenant, at func(time.Duration) simulation.View) {
			tallies = append(tallies, at(7*time.Minute+3*time.Second).Tally())
		})
	}
	if diff := cmp.Diff(tallies[0], tallies[1]); diff != "" {
		t.Error(diff)
	}
}

func TestDemoCanBeEdited(t *testing.T) {
	runDemo(t, func(tenant *simulation.Tenant, at func(time.Duration) simulation.View) {
		at(time.Minute)
		tenant.Contact("ransom-note.example", 42)
		tenant.Outage(simulation.AntivirusOff, 17763, 1)
		v := at(2 * time.Minute)
		if n := v.DomainTally("ransom-note.example").Machines; n != 42 {
			t.Errorf("%d machines", n)
		}
		if s := share(v, 17763, simulation.AntivirusOff); s != 1 {
			t.Errorf("%f", s)
		}
	})
}

func TestDemoStaysRealisticForAMonth(t *testing.T) {
	runDemo(t, func(_ *simulation.Tenant, at func(time.Duration) simulation.View) {
		for since := time.Duration(0); since < 30*24*time.Hour; since += 37*time.Hour + 11*time.Minute {
			tally := at(since).Tally()
			if tally.Total < 4000 || tally.Total > 4400 || tally.TotalNeedsAttention > tally.Total/3 {
				t.Errorf("after %s: %d machines, %d require attention", since, tally.Total, tally.TotalNeedsAttention)
			}
		}
	})
}
