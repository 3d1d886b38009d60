package endtoend

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mde-exporter/mde_exporter/internal/servertest"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// The domains that both tenants of the test watch.
const (
	suspected  = "evil.example"
	widespread = "wide.example" // contacted by more machines than an answer holds
	quiet      = "quiet.example"
)

// expectation is a query and what it returns: values by those of the labels
// that it names, in this order.
type expectation struct {
	query  string
	labels []string
	want   map[string]float64
}

// check asks Prometheus. Series of value 0 are left out where the expectation
// does not speak of any.
func (e expectation) check(p *servertest.Prometheus) error {
	samples, err := p.Query(e.query)
	if err != nil {
		return err
	}
	got := map[string]float64{}
	for _, s := range samples {
		values := make([]string, len(e.labels))
		for i, name := range e.labels {
			values[i] = s.Labels[name]
		}
		key := strings.Join(values, " ")
		if _, named := e.want[key]; !named && s.Value == 0 {
			continue
		}
		if _, twice := got[key]; twice {
			return fmt.Errorf("%s: two series with %s", e.query, key)
		}
		got[key] = s.Value
	}
	if diff := cmp.Diff(e.want, got); diff != "" {
		return fmt.Errorf("%s (-want +got):\n%s", e.query, diff)
	}
	return nil
}

// one is an expectation of a single value.
func one(query string, value float64) expectation {
	return expectation{query, nil, map[string]float64{"": value}}
}

// expectations are what Prometheus must say of a tenant as it stands, counted
// by the simulation itself.
func expectations(name, source string, view simulation.View) []expectation {
	tally := view.Tally()
	of := func(metric string) string { return fmt.Sprintf("%s{tenant=%q}", metric, name) }
	all := []expectation{
		one("sum("+of("mde_machines")+")", float64(tally.Total)),
		one("sum("+of("mde_machines_requiring_attention")+")", float64(tally.TotalNeedsAttention)),
		{"sum by (property) (" + of("mde_machines_attention") + ")", []string{"property"}, floats(tally.PropertyTotals)},
		{of("mde_machines"), []string{"os_build", "architecture"}, groups(tally.Machines)},
		{of("mde_machines_requiring_attention"), []string{"os_build", "architecture"}, groups(tally.RequiringAttention)},
		{of("mde_machines_attention"), []string{"os_build", "architecture", "property"}, attention(tally)},
		{of("mde_security_states_source_info"), []string{"source"}, map[string]float64{source: 1}},
		{of("mde_refresh_success"), []string{"collector"}, map[string]float64{"security_states": 1, "watched_domains": 1}},
		one(of("mde_watched_domains"), 3),
	}
	if source == "machines" {
		all = append(all,
			expectation{of("mde_machines_health"), []string{"health_status"}, floats(tally.Health)},
			expectation{of("mde_machines_risk"), []string{"risk_score"}, floats(tally.Risk)},
			expectation{of("mde_machines_exposure"), []string{"exposure_level"}, floats(tally.Exposure)},
			expectation{of("mde_machines_os_platform"), []string{"os_platform"}, floats(tally.Platform)},
			one(of("mde_security_states_incomplete"), 0),
		)
	}
	for _, domain := range []string{suspected, widespread, quiet} {
		tally := view.DomainTally(domain)
		of := func(metric string) string { return fmt.Sprintf("%s{tenant=%q, domain=%q}", metric, name, domain) }
		truncated := 0.0
		if tally.Truncated {
			truncated = 1
		}
		all = append(all,
			one(of("mde_watched_domain_machines"), float64(tally.Machines)),
			one(of("mde_watched_domain_machines_truncated"), truncated),
			one(of("mde_watched_domain_prevalence"), float64(tally.Prevalence)),
			expectation{of("mde_watched_domain_machines_risk"), []string{"risk_score"}, floats(tally.Risk)},
			expectation{of("mde_watched_domain_machines_attention"), []string{"property"}, floats(tally.Attention)},
			one("time() - "+of("mde_watched_domain_last_success_timestamp_seconds")+" < bool 60", 1),
		)
	}
	return all
}

func groups(counts map[simulation.Group]int) map[string]float64 {
	all := map[string]float64{}
	for g, n := range counts {
		all[g.Build+" "+g.Architecture] = float64(n)
	}
	return all
}

// attention is by group and property, 0 where the tenant has the property and
// the group does not.
func attention(tally simulation.Tally) map[string]float64 {
	all := map[string]float64{}
	for g := range tally.Machines {
		for property := range tally.PropertyTotals {
			all[g.Build+" "+g.Architecture+" "+property] = float64(tally.Attention[g][property])
		}
	}
	return all
}

func floats(counts map[string]int) map[string]float64 {
	all := map[string]float64{}
	for name, n := range counts {
		all[name] = float64(n)
	}
	return all
}

// eventually waits until Prometheus says all that is expected.
func eventually(t *testing.T, p *servertest.Prometheus, what string, all []expectation) {
	t.Helper()
	servertest.Eventually(t, what, func() error {
		for _, e := range all {
			if err := e.check(p); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestPrometheusHasTheTrueNumbers is the main job from end to end: two tenants,
// one for each source of security states, the program, and a Prometheus that
// scrapes it and is asked as dashboards and alerts ask.
func TestPrometheusHasTheTrueNumbers(t *testing.T) {
	t.Parallel()
	servertest.Find(t, "prometheus")
	domains := map[string]simulation.Domain{suspected: {Machines: 40}, widespread: {Machines: 900}}
	preview := newFarEnd(t, simulation.Options{
		Machines: 2345, Seed: 1, PageSize: 500, Domains: domains, UnknownDomain404: true, StatsAsStrings: true,
	})
	machines := newFarEnd(t, simulation.Options{Machines: 1234, Seed: 2, Domains: domains, PreviewStatus: 410})

	// /api/deviceavinfo has 30 calls a minute whatever the quota.
	settings := func(states string) string {
		return `
  security_states: {` + states + `}
  watched_domains: {refresh_interval: 2s, max_age: 10s, statistics: true, domains: [evil.example, wide.example, quiet.example]}
  quota: {calls_per_minute: 1000, calls_per_hour: 50000}
`
	}
	exporter := servertest.Exporter(t, "--config.file="+configuration(t,
		preview.section("preview", settings("refresh_interval: 2s, max_age: 10s")),
		machines.section("machines", settings("refresh_interval: 4s, max_age: 1m"))))
	prometheus := servertest.StartPrometheus(t, t.TempDir(), fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
- job_name: defender
  static_configs: [{targets: [%q]}]
`, exporter.Address))
	both := func() []expectation {
		return append(expectations("preview", "machinesecuritystates", preview.Now()),
			expectations("machines", "machines", machines.Now())...)
	}

	eventually(t, prometheus, "Prometheus has both tenants' numbers", append(both(),
		one("up", 1),
		one("mde_exporter_config_last_reload_successful", 1),
		one("count(mde_exporter_build_info)", 1),
	))
	if view := preview.Now(); view.DomainTally(suspected).Attention == nil || !view.DomainTally(widespread).Truncated {
		t.Fatal("the tenant has nothing that tells a join or a truncated list from none")
	}

	// Both far ends change in everything that is counted.
	for _, far := range []*farEnd{preview, machines} {
		far.SetMachines(1500)
		far.Outage(simulation.AntivirusNotReporting, 19045, 0.5)
		far.Change(func(m *simulation.Machine) {
			if m.Build == 22631 && m.Chance("rebuilt") < 0.3 {
				m.Build = 26100
			}
		})
		far.Contact(suspected, 321)
		far.Contact(quiet, 2)
		far.Contact(widespread, 500)
	}
	eventually(t, prometheus, "Prometheus sees the change", both())

	// One far end fails: its last numbers stay, its success does not; the other
	// continues.
	total := float64(preview.Now().Tally().Total)
	preview.Fail(simulation.Every, simulation.Fault{Status: 503})
	failed := time.Now()
	machines.Contact(suspected, 7)
	eventually(t, prometheus, "the values of the tenant that fails are withdrawn, those of the other go on", append(
		expectations("machines", "machines", machines.Now()),
		expectation{`mde_refresh_success{tenant="preview"}`, []string{"collector"}, map[string]float64{"security_states": 0, "watched_domains": 0}},
		one(`count({__name__=~"mde_machines.*", tenant="preview"}) or vector(0)`, 0),
		one(`count(mde_watched_domain_machines{tenant="preview"}) or vector(0)`, 0),
		one(`count(time() - mde_refresh_last_success_timestamp_seconds{tenant="preview"} >= 10)`, 2),
		one(`count(time() - mde_watched_domain_last_success_timestamp_seconds{tenant="preview"} >= 10)`, 3),
		one(`sum(mde_refresh_failures_total{tenant="preview", reason!="server"})`, 0),
		one(`sum(mde_refresh_failures_total{tenant="machines"}) or vector(0)`, 0),
		one(`min(sum by (collector) (mde_refresh_failures_total{tenant="preview", reason="server"})) >= bool 1`, 1),
	))
	// What was seen between the first failure and the withdrawal is in
	// Prometheus's memory, whenever this test got round to looking.
	between := func(f, number, collector string) string {
		return fmt.Sprintf(`%s((%s and on () mde_refresh_success{tenant="preview", collector=%q} == 0)[%ds:250ms])`,
			f, number, collector, int(time.Since(failed).Seconds())+1)
	}
	const machinesOfAll, machinesOfDomain = `sum(mde_machines{tenant="preview"})`, `sum(mde_watched_domain_machines{tenant="preview", domain="evil.example"})`
	for _, e := range []expectation{
		one(between("min_over_time", machinesOfAll, "security_states"), total),
		one(between("max_over_time", machinesOfAll, "security_states"), total),
		one(between("min_over_time", machinesOfDomain, "watched_domains"), 321),
		one(between("max_over_time", machinesOfDomain, "watched_domains"), 321),
	} {
		if err := e.check(prometheus); err != nil {
			t.Errorf("while the far end failed and the values were young: %v", err)
		}
	}

	preview.Clear()
	eventually(t, prometheus, "the tenant that failed is back", expectations("preview", "machinesecuritystates", preview.Now()))
	for _, far := range []*farEnd{preview, machines} {
		if calls := far.Misdirected(); len(calls) > 0 {
			t.Errorf("a token went where it does not belong: %+v", calls[0])
		}
		if n := far.Count(simulation.Token); n > 3 {
			t.Errorf("%d tokens were asked for, where two audiences need one each", n)
		}
	}
}
