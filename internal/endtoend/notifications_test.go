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

// pace is by how much the rules, the Alertmanager configuration and the
// exporter's default intervals are sped up: an hour becomes 30 seconds. Whatever
// else the machine does, a scrape and an evaluation must fit into one second.
const pace = 120

// quick is a time of the rules in this test.
func quick(d time.Duration) time.Duration { return d / pace }

// shown is the demo's story in moments that last: what takes it minutes is over
// between two refreshes, as it is in life between two reports of Defender.
type shown struct{ began atomic.Int64 }

// moment is which moment of the demo's story is shown at a time since the
// tenant's start: its beginning, from begin on the middle of its incidents, and
// from end on their end.
func (s *shown) moment(since, begin, end time.Duration) time.Duration {
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

// incidents is the demo's tenant, its incidents waiting for begin. Machines
// contact the domain after the fleet was read in its outage, so that it is known
// which of them are unprotected.
func incidents(s *shown) simulation.Options {
	demo := simulation.Demo()
	story := *demo.Story
	demo.Story = &simulation.Story{
		Fleet: func(time.Duration) (first, count int) { return story.Fleet(0) },
		Machine: func(m *simulation.Machine, since time.Duration) {
			story.Machine(m, s.moment(since, 0, quick(3*time.Hour)))
		},
		Domain: func(name string, since time.Duration) (simulation.Domain, bool) {
			return story.Domain(name, s.moment(since, quick(45*time.Minute), quick(150*time.Minute)))
		},
	}
	return demo
}

// bundled reads a file of the repository.
func bundled(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// hurriedAlertmanager is the configuration to copy, sped up, with a webhook for
// each receiver.
func hurriedAlertmanager(t *testing.T, to *servertest.Webhook) string {
	t.Helper()
	config := bundled(t, "../../deploy/compose/alertmanager/alertmanager.yml")
	config = regexp.MustCompile(`(group_wait|group_interval|repeat_interval): (\w+)`).ReplaceAllStringFunc(config, func(match string) string {
		name, text, _ := strings.Cut(match, ": ")
		d, err := model.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		if name == "repeat_interval" {
			return match // Nothing is repeated in the minutes of this test.
		}
		return fmt.Sprintf("%s: %dms", name, max(quick(time.Duration(d)), time.Second).Milliseconds())
	})
	return regexp.MustCompile(`(?m)^- name: \w+$`).ReplaceAllString(config, "$0\n  webhook_configs: [{url: '"+to.URL+"', send_resolved: true}]")
}

// notifications are what each receiver got, by tenant and what else its group
// is about: for each message the alerts that fire, or that were sent before and
// resolved. Alertmanager adds to these what was inhibited until then.
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

// TestWhoIsOnCallGetsEachCauseOnce is the list "What you get" of the runbooks:
// tenants, the exporter's program, Prometheus with the bundled rules and
// Alertmanager with the configuration of the runbooks. In one tenant everything
// happens that happens in the demo, in the second a secret expires, the third
// does not answer; then none of five does.
func TestWhoIsOnCallGetsEachCauseOnce(t *testing.T) {
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
	var story shown
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
`, model.Duration(quick(15*time.Minute)), model.Duration(quick(time.Hour)), simulation.DemoSuspectedDomain)
	for _, name := range slices.Sorted(maps.Keys(tenants)) {
		tenant := tenants[name]
		far, err := tenant.Listen(simulation.ListenOptions{Separate: true})
		if err != nil {
			t.Fatal(err)
		}
		defer far.Close()
		write("secret-"+name, tenant.ClientSecret())
		config += fmt.Sprintf(`- name: %[1]s
  azuread: {oauth: {tenant_id: %[2]s, client_id: %[3]s, client_secret_file: secret-%[1]s}}
  endpoints: {login_url: %[4]s, graph_url: %[5]s, api_url: %[6]s}
`, name, tenant.TenantID(), tenant.ClientID(), far.LoginURL, far.GraphURL, far.APIURL)
	}
	exporter := servertest.Exporter(t, "--config.file="+write("mde.yml", config))
	webhook := servertest.StartWebhook(t)
	alertmanager := servertest.StartAlertmanagerWith(t, dir, hurriedAlertmanager(t, webhook))
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
	// The minutes that a Prometheus may take to find its targets pass too quickly here.
	servertest.Eventually(t, "the exporter is scraped", func() error { return one("up", 1).check(prometheus) })
	write("rules.yml", servertest.Hurry(t, bundled(t, "../../alerts/mde.yaml"), pace, 15*time.Second))
	// More than a tenth of simulated machines always requires attention.
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
	servertest.Eventually(t, "every tenant and domain is known, and an hour of calm passes", func() error {
		calm, err := prometheus.Query(fmt.Sprintf(
			"count(tenant_domain:mde_watched_domain_machines:last == 0) == 10 and on () count(tenant:mde_machines:sum offset %dms) == 5",
			quick(time.Hour).Milliseconds()))
		if err != nil || len(calm) == 0 {
			return fmt.Errorf("%v, %w", calm, err)
		}
		return nil
	})
	if failed, err := prometheus.FailedRules(); err != nil || len(failed) > 0 {
		t.Errorf("rules that cannot be evaluated: %v, %v", failed, err)
	}
	if early := webhook.Messages(); len(early) > 0 {
		t.Errorf("before anything happened there were %v", notifications(early))
	}

	story.began.Store(int64(time.Since(began)))
	tenants["fabrikam"].ExpireSecret(tenants["fabrikam"].ClientSecret())
	tenants["fabrikam"].RevokeTokens()
	tenants["litware"].Fail(simulation.Every, simulation.Fault{Status: 503})
	time.Sleep(quick(225 * time.Minute)) // Longer than a domain takes to be stale.
	tenants["fabrikam"].SetSecrets("another")
	write("secret-fabrikam", "another")
	tenants["litware"].Clear()
	spreading := "pager contoso " + simulation.DemoSuspectedDomain
	await("the incidents are over", func(got map[string][]string) bool {
		return resolved("pager fabrikam")(got) && resolved("pager litware")(got) &&
			resolved("pager contoso AntivirusNotReporting")(got) && len(got[spreading]) > 1
	})
	time.Sleep(quick(time.Hour)) // All that is not to be sent has the time to be.

	for _, tenant := range tenants {
		tenant.Fail(simulation.Every, simulation.Fault{Status: 503})
	}
	time.Sleep(quick(3 * time.Hour))
	for _, tenant := range tenants {
		tenant.Clear()
	}
	await("the outage of all tenants is over", resolved("pager"))
	time.Sleep(quick(time.Hour))

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
