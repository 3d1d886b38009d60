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

// The domains that both tenants watch.
const (
	suspected  = "evil.example"
	widespread = "wide.example" // contacted by more machines than a response contains
	quiet      = "quiet.example"
)

// expectation is a query and its result: values by the values of the named
// labels, in this order.
type expectation struct {
	query  string
	labels []string
	want   map[string]float64
}

// check queries Prometheus. It ignores series with value 0 that are not expected.
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

// single returns the expectation of a single value.
func single(query string, value float64) expectation {
	return expectation{query, nil, map[string]float64{"": value}}
}

// expectations returns what Prometheus must return for a tenant, counted by the
// simulation.
func expectations(name, source string, view simulation.View) []expectation {
	tally := view.Tally()
	of := func(metric string) string { return fmt.Sprintf("%s{tenant=%q}", metric, name) }
	all := []expectation{
		single("sum("+of("mde_machines")+")", float64(tally.Total)),
		single("sum("+of("mde_machines_requiring_attention")+")", float64(tally.TotalNeedsAttention)),
		{"sum by (property) (" + of("mde_machines_attention") + ")", []string{"property"}, floats(tally.PropertyTotals)},
		{of("mde_machines"), []string{"os_build", "architecture"}, groups(tally.Machines)},
		{of("mde_machines_requiring_attention"), []string{"os_build", "architecture"}, groups(tally.RequiringAttention)},
		{of("mde_machines_attention"), []string{"os_build", "architecture", "property"}, attention(tally)},
		{of("mde_security_states_source_info"), []string{"source"}, map[string]float64{source: 1}},
		{of("mde_refresh_success"), []string{"collector"}, map[string]float64{"security_states": 1, "watched_domains": 1}},
		single(of("mde_watched_domains"), 3),
	}
	if source == "machines" {
		all = append(all,
			expectation{of("mde_machines_health"), []string{"health_status"}, floats(tally.Health)},
			expectation{of("mde_machines_risk"), []string{"risk_score"}, floats(tally.Risk)},
			expectation{of("mde_machines_exposure"), []string{"exposure_level"}, floats(tally.Exposure)},
			expectation{of("mde_machines_os_platform"), []string{"os_platform"}, floats(tally.Platform)},
			single(of("mde_security_states_incomplete"), 0),
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
			single(of("mde_watched_domain_machines"), float64(tally.Machines)),
			single(of("mde_watched_domain_machines_truncated"), truncated),
			single(of("mde_watched_domain_prevalence"), float64(tally.Prevalence)),
			expectation{of("mde_watched_domain_machines_risk"), []string{"risk_score"}, floats(tally.Risk)},
			expectation{of("mde_watched_domain_machines_attention"), []string{"property"}, floats(tally.Attention)},
			single("time() - "+of("mde_watched_domain_last_success_timestamp_seconds")+" < bool 60", 1),
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

// attention returns the counts by group and property, 0 where only other groups
// have the property.
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

// eventually waits until Prometheus returns all expected values.
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

// TestPrometheusValuesMatchSimulatedTenants runs two tenants, one for each source
// of security states, the exporter, and a Prometheus that scrapes it. It queries
// Prometheus like dashboards and alerts do.
func TestPrometheusValuesMatchSimulatedTenants(t *testing.T) {
	t.Parallel()
	servertest.Find(t, "prometheus")
	domains := map[string]simulation.Domain{suspected: {Machines: 40}, widespread: {Machines: 900}}
	preview := newSimulatedTenant(t, simulation.Options{
		Machines: 2345, Seed: 1, PageSize: 500, Domains: domains, UnknownDomain404: true, StatsAsStrings: true,
	})
	machines := newSimulatedTenant(t, simulation.Options{Machines: 1234, Seed: 2, Domains: domains, PreviewStatus: 410})

	// /api/deviceavinfo is limited to 30 calls a minute for any quota.
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
		single("up", 1),
		single("mde_exporter_config_last_reload_successful", 1),
		single("count(mde_exporter_build_info)", 1),
	))
	if view := preview.Now(); view.DomainTally(suspected).Attention == nil || !view.DomainTally(widespread).Truncated {
		t.Fatal("the tenant has no joined properties or no truncated list")
	}

	// Change everything that is counted, in both tenants.
	for _, sim := range []*simulatedTenant{preview, machines} {
		sim.SetMachines(1500)
		sim.Outage(simulation.AntivirusNotReporting, 19045, 0.5)
		sim.Change(func(m *simulation.Machine) {
			if m.Build == 22631 && m.Chance("rebuilt") < 0.3 {
				m.Build = 26100
			}
		})
		sim.Contact(suspected, 321)
		sim.Contact(quiet, 2)
		sim.Contact(widespread, 500)
	}
	eventually(t, prometheus, "Prometheus sees the change", both())

	// One tenant fails: its last values stay, its success becomes 0. The other
	// tenant is unaffected.
	total := float64(preview.Now().Tally().Total)
	preview.Fail(simulation.Every, simulation.Fault{Status: 503})
	failed := time.Now()
	machines.Contact(suspected, 7)
	eventually(t, prometheus, "the values of the failing tenant are withdrawn, those of the other stay current", append(
		expectations("machines", "machines", machines.Now()),
		expectation{`mde_refresh_success{tenant="preview"}`, []string{"collector"}, map[string]float64{"security_states": 0, "watched_domains": 0}},
		single(`count({__name__=~"mde_machines.*", tenant="preview"}) or vector(0)`, 0),
		single(`count(mde_watched_domain_machines{tenant="preview"}) or vector(0)`, 0),
		single(`count(time() - mde_refresh_last_success_timestamp_seconds{tenant="preview"} >= 10)`, 2),
		single(`count(time() - mde_watched_domain_last_success_timestamp_seconds{tenant="preview"} >= 10)`, 3),
		single(`sum(mde_refresh_failures_total{tenant="preview", reason!="server"})`, 0),
		single(`sum(mde_refresh_failures_total{tenant="machines"}) or vector(0)`, 0),
		single(`min(sum by (collector) (mde_refresh_failures_total{tenant="preview", reason="server"})) >= bool 1`, 1),
	))
	// Prometheus has stored the values between the first failure and the
	// withdrawal.
	between := func(f, number, collector string) string {
		return fmt.Sprintf(`%s((%s and on () mde_refresh_success{tenant="preview", collector=%q} == 0)[%ds:250ms])`,
			f, number, collector, int(time.Since(failed).Seconds())+1)
	}
	const machinesOfAll, machinesOfDomain = `sum(mde_machines{tenant="preview"})`, `sum(mde_watched_domain_machines{tenant="preview", domain="evil.example"})`
	for _, e := range []expectation{
		single(between("min_over_time", machinesOfAll, "security_states"), total),
		single(between("max_over_time", machinesOfAll, "security_states"), total),
		single(between("min_over_time", machinesOfDomain, "watched_domains"), 321),
		single(between("max_over_time", machinesOfDomain, "watched_domains"), 321),
	} {
		if err := e.check(prometheus); err != nil {
			t.Errorf("during the failure, before max_age: %v", err)
		}
	}

	preview.Clear()
	eventually(t, prometheus, "the failed tenant has recovered", expectations("preview", "machinesecuritystates", preview.Now()))
	for _, sim := range []*simulatedTenant{preview, machines} {
		if calls := sim.Misdirected(); len(calls) > 0 {
			t.Errorf("misdirected token: %+v", calls[0])
		}
		if n := sim.Count(simulation.Token); n > 3 {
			t.Errorf("%d token requests for two audiences", n)
		}
	}
}
