package endtoend

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/internal/servertest"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// speedup is the factor by which the rules, the Alertmanager configuration and
// the exporter's default intervals are accelerated: an hour becomes 30 seconds. A
// scrape and an evaluation must still fit into one second on a busy machine.
const speedup = 120

// accelerated returns an accelerated duration.
func accelerated(d time.Duration) time.Duration { return d / speedup }

// incidentClock selects moments of the demo's story and keeps them. In
// accelerated time, an incident of minutes would otherwise end between two
// refreshes.
type incidentClock struct{ began atomic.Int64 }

// moment returns the moment of the demo's story to show: its start, from begin on
// the middle of its incidents, and from end on their end.
func (s *incidentClock) moment(since, begin, end time.Duration) time.Duration {
	began := time.Duration(s.began.Load())
	switch {
	case began == 0 || since < began+begin:
		return 0
	case since < began+end:
		return 4 * time.Minute
	default:
		return 15*time.Minute + 30*time.Second
	}
}

// incidents returns the demo's tenant, whose incidents wait for s.began. Machines
// contact the domain after the fleet was read during the outage, so the exporter
// knows which of them are unprotected.
func incidents(s *incidentClock) simulation.Options {
	demo := simulation.Demo()
	story := *demo.Story
	demo.Story = &simulation.Story{
		Fleet: func(time.Duration) (first, count int) { return story.Fleet(0) },
		Machine: func(m *simulation.Machine, since time.Duration) {
			story.Machine(m, s.moment(since, 0, accelerated(3*time.Hour)))
		},
		Domain: func(name string, since time.Duration) (simulation.Domain, bool) {
			return story.Domain(name, s.moment(since, accelerated(45*time.Minute), accelerated(150*time.Minute)))
		},
	}
	return demo
}

// bundled returns a file of the repository.
func bundled(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// acceleratedAlertmanager returns the documented Alertmanager configuration,
// accelerated, with a webhook for each receiver.
func acceleratedAlertmanager(t *testing.T, to *servertest.Webhook) string {
	t.Helper()
	config := bundled(t, "../../deploy/compose/alertmanager/alertmanager.yml")
	config = regexp.MustCompile(`(group_wait|group_interval|repeat_interval): (\w+)`).ReplaceAllStringFunc(config, func(match string) string {
		name, text, _ := strings.Cut(match, ": ")
		d, err := model.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		if name == "repeat_interval" {
			return match // The test is too short for repetitions.
		}
		return fmt.Sprintf("%s: %dms", name, max(accelerated(time.Duration(d)), time.Second).Milliseconds())
	})
	return regexp.MustCompile(`(?m)^- name: \w+$`).ReplaceAllString(config, "$0\n  webhook_configs: [{url: '"+to.URL+"', send_resolved: true}]")
}

// notifications returns what each receiver got, by tenant and the other labels of
// its group. For each message it lists the alerts that fire, and those that were
// sent before and are resolved. It omits resolved alerts that were inhibited
// until then.
func notifications(messages []servertest.Message) map[string][]string {
	all, sent := map[string][]string{}, map[string]bool{}
	for _, m := range messages {
		by := map[string][]string{}
		var about string
		for _, n := range m.Alerts {
			about = strings.Join(strings.Fields(strings.Join([]string{m.Receiver, n.Labels["tenant"], n.Labels["domain"], n.Labels["property"]}, " ")), " ")
			key := about + " " + n.Labels["alertname"]
			if sent[key] = sent[key] || n.Status == "firing"; sent[key] {
				by[n.Status] = append(by[n.Status], n.Labels["alertname"])
			}
		}
		var parts []string
		for _, status := range slices.Sorted(maps.Keys(by)) {
			slices.Sort(by[status])
			parts = append(parts, status+" "+strings.Join(slices.Compact(by[status]), " "))
		}
		all[about] = append(all[about], strings.Join(parts, ", "))
	}
	return all
}

// TestNotificationsNameEachCauseOnce checks the list "What you get" of the
// runbooks with simulated tenants, the exporter, Prometheus with the bundled
// rules and Alertmanager with the documented configuration. The first tenant
// follows the demo's story, the second has an expired secret, the third does not
// respond; later none of the five responds.
func TestNotificationsNameEachCauseOnce(t *testing.T) {
	t.Parallel()
	servertest.Find(t, "prometheus")
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var story incidentClock
	began := time.Now()
	tenants := map[string]*simulation.Tenant{"contoso": simulation.New(incidents(&story))}
	for i, name := range []string{"fabrikam", "litware", "proseware", "adatum"} {
		tenants[name] = simulation.New(simulation.Options{Machines: 100, Seed: uint64(i), TenantID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i)})
	}
	config := fmt.Sprintf(`
global:
  security_states: {refresh_interval: %s, source: machinesecuritystates}
  watched_domains: {refresh_interval: %s, domains: [%s, quiet.example]}
  quota: {calls_per_minute: 1000, calls_per_hour: 50000}
tenants:
`, model.Duration(accelerated(15*time.Minute)), model.Duration(accelerated(time.Hour)), simulation.DemoSuspectedDomain)
	for _, name := range slices.Sorted(maps.Keys(tenants)) {
		tenant := tenants[name]
		server, err := tenant.Listen(simulation.ListenOptions{Separate: true})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		write("secret-"+name, tenant.ClientSecret())
		config += fmt.Sprintf(`- name: %[1]s
  azuread: {oauth: {tenant_id: %[2]s, client_id: %[3]s, client_secret_file: secret-%[1]s}}
  endpoints: {login_url: %[4]s, graph_url: %[5]s, api_url: %[6]s}
`, name, tenant.TenantID(), tenant.ClientID(), server.LoginURL, server.GraphURL, server.APIURL)
	}
	exporter := servertest.Exporter(t, "--config.file="+write("mde.yml", config))
	webhook := servertest.StartWebhook(t)
	alertmanager := servertest.StartAlertmanagerWith(t, dir, acceleratedAlertmanager(t, webhook))
	prometheus := servertest.StartPrometheus(t, dir, fmt.Sprintf(`
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
  external_labels: {grafana_url: "https://grafana.example"}
rule_files: [rules.yml, own.yml]
alerting:
  alert_relabel_configs: [{action: labeldrop, regex: grafana_url}]
  alertmanagers:
  - static_configs: [{targets: [%q]}]
scrape_configs:
- job_name: defender
  static_configs: [{targets: [%q]}]
`, alertmanager.Address, exporter.Address))
	// Accelerated rules would fire before Prometheus finds its targets.
	servertest.Eventually(t, "the exporter is scraped", func() error { return single("up", 1).check(prometheus) })
	write("rules.yml", servertest.Accelerate(t, bundled(t, "../../alerts/mde.yaml"), speedup, 15*time.Second))
	// More than a tenth of the simulated machines always requires attention.
	write("own.yml", `
groups:
- name: own
  rules:
  - {record: tenant:mde_threshold:own, labels: {name: attention_ratio}, expr: 0.25 * group by (tenant) (mde_refresh_interval_seconds)}
`)
	prometheus.Signal(t, syscall.SIGHUP)
	await := func(what string, condition func(got map[string][]string) bool) {
		t.Helper()
		servertest.Eventually(t, what, func() error {
			if got := notifications(webhook.Messages()); !condition(got) {
				return fmt.Errorf("%v", got)
			}
			return nil
		})
	}
	resolved := func(about string) func(map[string][]string) bool {
		return func(got map[string][]string) bool {
			all := got[about]
			return len(all) > 0 && strings.HasPrefix(all[len(all)-1], "resolved ")
		}
	}
	servertest.Eventually(t, "every tenant and domain has values, and an hour without incidents passes", func() error {
		steady, err := prometheus.Query(fmt.Sprintf(
			"count(tenant_domain:mde_watched_domain_machines:last == 0) == 10 and on () count(tenant:mde_machines:sum offset %dms) == 5",
			accelerated(time.Hour).Milliseconds()))
		if err != nil || len(steady) == 0 {
			return fmt.Errorf("%v, %w", steady, err)
		}
		return nil
	})
	if failed, err := prometheus.FailedRules(); err != nil || len(failed) > 0 {
		t.Errorf("failed rules: %v, %v", failed, err)
	}
	if early := webhook.Messages(); len(early) > 0 {
		t.Errorf("notifications before the incidents: %v", notifications(early))
	}

	story.began.Store(int64(time.Since(began)))
	tenants["fabrikam"].ExpireSecret(tenants["fabrikam"].ClientSecret())
	tenants["fabrikam"].RevokeTokens()
	tenants["litware"].Fail(simulation.Every, simulation.Fault{Status: 503})
	time.Sleep(accelerated(225 * time.Minute)) // Longer than it takes until a domain is stale.
	tenants["fabrikam"].SetSecrets("another")
	write("secret-fabrikam", "another")
	tenants["litware"].Clear()
	spreading := "pager contoso " + simulation.DemoSuspectedDomain
	await("the incidents are over", func(got map[string][]string) bool {
		return resolved("pager fabrikam")(got) && resolved("pager litware")(got) &&
			resolved("pager contoso AntivirusNotReporting")(got) && len(got[spreading]) > 1
	})
	time.Sleep(accelerated(time.Hour)) // Time for notifications that should not be sent.

	for _, tenant := range tenants {
		tenant.Fail(simulation.Every, simulation.Fault{Status: 503})
	}
	time.Sleep(accelerated(3 * time.Hour))
	for _, tenant := range tenants {
		tenant.Clear()
	}
	await("the outage of all tenants is over", resolved("pager"))
	time.Sleep(accelerated(time.Hour))

	want := map[string][]string{
		"pager contoso AntivirusNotReporting": {"firing MDEProtectionOutageOnBuild", "resolved MDEProtectionOutageOnBuild"},
		spreading: {
			"firing MDEWatchedDomainNewlyContactedByUnprotected",
			"firing MDEWatchedDomainNewlyContactedByUnprotected MDEWatchedDomainSpreading",
		},
		"pager fabrikam": {"firing MDESignInRefused", "resolved MDESignInRefused"},
		"pager litware":  {"firing MDETenantUnreachable", "resolved MDETenantUnreachable"},
		"pager":          {"firing MDEManyTenantsFailing", "resolved MDEManyTenantsFailing"},
	}
	if diff := cmp.Diff(want, notifications(webhook.Messages())); diff != "" {
		t.Errorf("notifications (-want +got)\n%s", diff)
	}
	for _, m := range webhook.Messages() {
		for _, n := range m.Alerts {
			if !strings.HasPrefix(n.Annotations["dashboard_url"], "https://grafana.example/d/mde-") || n.Labels["grafana_url"] != "" {
				t.Errorf("%s links the dashboard %q and has the labels %v", n.Labels["alertname"], n.Annotations["dashboard_url"], n.Labels)
			}
		}
	}
}
