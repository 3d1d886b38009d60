package alerts_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/servertest"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// hurry is by how much the bundled rules are sped up for a test of seconds: an
// hour becomes six seconds.
const hurry = 600

// TestTenantEventsReachTheOnCallReceiver follows events the whole way: a
// tenant, the exporter's program, Prometheus with the bundled rules,
// Alertmanager, a webhook; and back again.
func TestTenantEventsReachTheOnCallReceiver(t *testing.T) {
	t.Parallel()
	servertest.Find(t, "prometheus")
	dir := t.TempDir()

	tenant := simulation.New(simulation.Options{Machines: 1000})
	far, err := tenant.Listen(simulation.ListenOptions{Separate: true})
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret := write("secret", tenant.ClientSecret())
	exporter := servertest.Exporter(t, "--config.file="+write("mde.yml", fmt.Sprintf(`
tenants:
- name: contoso
  azuread:
    oauth: {tenant_id: %s, client_id: %s, client_secret_file: secret}
  endpoints: {login_url: %s, graph_url: %s, api_url: %s}
  security_states: {refresh_interval: 2s, max_age: 6s}
  watched_domains: {refresh_interval: 3s, max_age: 9s, domains: [evil.example]}
`, tenant.TenantID(), tenant.ClientID(), far.LoginURL, far.GraphURL, far.APIURL)))

	webhook := servertest.StartWebhook(t)
	alertmanager := servertest.StartAlertmanager(t, dir, webhook)
	write("rules.yml", servertest.Accelerate(t, read(t, "mde.yaml"), hurry, 5*time.Second))
	prometheus := servertest.StartPrometheus(t, dir, fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
alerting:
  alertmanagers:
  - static_configs: [{targets: [%q]}]
scrape_configs:
- job_name: defender
  static_configs: [{targets: [%q]}]
`, alertmanager.Address, exporter.Address))

	last := func(status, alert string, labels map[string]string) servertest.Notification {
		t.Helper()
		var n servertest.Notification
		servertest.Eventually(t, fmt.Sprintf("the webhook hears that %s %v is %s", alert, labels, status), func() error {
			var ok bool
			if n, ok = webhook.Last(alert, labels); !ok || n.Status != status {
				return fmt.Errorf("the last it heard is %v", n)
			}
			return nil
		})
		return n
	}
	contacted := map[string]string{"tenant": "contoso", "domain": "evil.example"}
	outage := map[string]string{"tenant": "contoso", "property": "AntivirusNotReporting", "os_build": "19045"}
	refused := map[string]string{"tenant": "contoso"}

	// What is new or rising is so in comparison with before.
	servertest.Eventually(t, "the domain is known as never contacted, and an hour of calm passes", func() error {
		calm, err := prometheus.Query(fmt.Sprintf(
			"tenant_domain:mde_watched_domain_machines:last == 0 and on (tenant) tenant:mde_machines:sum offset %dms == 1000",
			(time.Hour / hurry).Milliseconds()))
		if err != nil || len(calm) == 0 {
			return fmt.Errorf("%v, %w", calm, err)
		}
		return nil
	})
	if early, ok := webhook.Last("MDEWatchedDomainContacted", nil); ok {
		t.Errorf("before anything happened, the webhook heard %v", early)
	}

	tenant.Contact("evil.example", 12)
	if n := last("firing", "MDEWatchedDomainContacted", contacted); !strings.Contains(n.Annotations["description"], "evil.example: 12.") {
		t.Errorf("the description does not have 12 machines: %s", n.Annotations["description"])
	}
	if n := last("firing", "MDEWatchedDomainNewlyContacted", contacted); n.Labels["severity"] != "critical" {
		t.Errorf("a new contact is %s, want critical", n.Labels["severity"])
	}

	tenant.Outage(simulation.AntivirusNotReporting, 19045, 0.9)
	last("firing", "MDEProtectionOutageOnBuild", outage)
	last("firing", "MDEMachinesAttentionRisingFast", map[string]string{"property": "AntivirusNotReporting"})

	tenant.ExpireSecret(tenant.ClientSecret())
	tenant.RevokeTokens()
	if n := last("firing", "MDESignInRefused", refused); n.Annotations["runbook_url"] == "" {
		t.Error("the one who is on call is not told what to do")
	}
	servertest.Eventually(t, "the values are withdrawn", func() error {
		left, err := prometheus.Query("mde_machines or mde_watched_domain_machines")
		if err != nil || len(left) > 0 {
			return fmt.Errorf("%d series, %w", len(left), err)
		}
		return nil
	})
	for _, alert := range []string{"MDEWatchedDomainContacted", "MDEProtectionOutageOnBuild"} {
		firing, err := prometheus.Query(fmt.Sprintf("ALERTS{alertname=%q, alertstate=%q}", alert, "firing"))
		if err != nil || len(firing) != 1 || firing[0].Labels["tenant"] != "contoso" {
			t.Errorf("with the values withdrawn, %s fires for %v, %v; want contoso", alert, firing, err)
		}
	}

	tenant.SetSecrets("another")
	if err := os.WriteFile(secret, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	tenant.Restore()
	tenant.Contact("evil.example", 0)
	last("resolved", "MDESignInRefused", refused)
	last("resolved", "MDEProtectionOutageOnBuild", outage)
	last("resolved", "MDEWatchedDomainContacted", contacted)

	exporter.Kill()
	last("firing", "MDEExporterDown", map[string]string{"instance": exporter.Address})
}
