package alerts_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/mde-exporter/mde_exporter/internal/servertest"
)

// alertmanagerFile is the configuration that belongs to the alerts.
const alertmanagerFile = "../deploy/compose/alertmanager/alertmanager.yml"

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestRunbookContainsTheAlertmanagerConfiguration(t *testing.T) {
	_, file, _ := strings.Cut(read(t, alertmanagerFile), "\nroute:\n")
	_, runbook, _ := strings.Cut(read(t, "../docs/runbooks.md"), "```yaml\nroute:\n")
	runbook, _, _ = strings.Cut(runbook, "```")
	if diff := cmp.Diff(file, runbook); diff != "" {
		t.Errorf("-%s +docs/runbooks.md\n%s", alertmanagerFile, diff)
	}
}

func TestAlertmanagerRoutesEachAlertByItsSeverity(t *testing.T) {
	amtool := servertest.Find(t, "amtool")
	if output, err := exec.CommandContext(t.Context(), amtool, "check-config", alertmanagerFile).CombinedOutput(); err != nil {
		t.Fatalf("amtool check-config: %v\n%s", err, output)
	}
	receivers := map[string]string{"critical": "pager", "warning": "mail", "info": "nobody"}
	for _, a := range bundled(t) {
		severity := severity(t, a)
		for _, tenant := range []string{"", "contoso"} {
			args := []string{
				"config", "routes", "test", "--config.file=" + alertmanagerFile, "--verify.receivers=" + receivers[severity],
				"alertname=" + a.Alert, "severity=" + severity, "tenant=" + tenant,
			}
			if output, err := exec.CommandContext(t.Context(), amtool, args...).CombinedOutput(); err != nil {
				t.Errorf("amtool %s: %v\n%s", strings.Join(args, " "), err, output)
			}
		}
	}
}

// TestRunbookRoutesByDeviceGroupAndList inserts the routes by device
// group and list in front of the others, as the runbooks say.
func TestRunbookRoutesByDeviceGroupAndList(t *testing.T) {
	amtool := servertest.Find(t, "amtool")
	_, routes, _ := strings.Cut(read(t, "../docs/runbooks.md"), "**Routes by device group and list.**")
	_, routes, _ = strings.Cut(routes, "```yaml\n")
	routes, _, _ = strings.Cut(routes, "```")
	config := strings.Replace(read(t, alertmanagerFile), "\n  routes:\n", "\n  routes:\n"+routes, 1) + "- name: branches\n- name: workplace\n"
	file := filepath.Join(t.TempDir(), "alertmanager.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for receiver, labels := range map[string][]string{
		"branches":  {"alertname=MDESignaturesOld", "severity=warning", "tenant=contoso", "device_group=Branch offices"},
		"mail":      {"alertname=MDESignaturesOld", "severity=warning", "tenant=contoso", "device_group=Headquarters"},
		"workplace": {"alertname=MDEWatchedDomainNewlyContacted", "severity=warning", "tenant=contoso", "domain=toolbar.example", "list=unwanted"},
		"pager":     {"alertname=MDEWatchedDomainNewlyContactedByUnprotected", "severity=critical", "tenant=contoso", "domain=toolbar.example", "list=unwanted"},
		"nobody":    {"alertname=MDEWatchedDomainContacted", "severity=info", "tenant=contoso", "domain=toolbar.example", "list=unwanted"},
	} {
		args := append([]string{"config", "routes", "test", "--config.file=" + file, "--verify.receivers=" + receiver}, labels...)
		if output, err := exec.CommandContext(t.Context(), amtool, args...).CombinedOutput(); err != nil {
			t.Errorf("amtool %s: %v\n%s", strings.Join(args, " "), err, output)
		}
	}
}

// TestWhatTenantsShareIsOneNotification sends Alertmanager the same alert of 40
// tenants, as an application for all of them or a global watch list causes it.
func TestWhatTenantsShareIsOneNotification(t *testing.T) {
	t.Parallel()
	webhook := servertest.StartWebhook(t)
	config := regexp.MustCompile(`group_wait: \w+`).ReplaceAllString(read(t, alertmanagerFile), "group_wait: 1s")
	config = regexp.MustCompile(`(?m)^- name: \w+$`).ReplaceAllString(config, "$0\n  webhook_configs: [{url: '"+webhook.URL+"'}]")
	alertmanager := servertest.StartAlertmanagerWith(t, t.TempDir(), config)

	type posted struct {
		Labels map[string]string `json:"labels"`
	}
	shared := []string{
		"MDECredentialExpiresNow", "MDECredentialExpiring", "MDEQuotaTooSmall", "MDESecurityStatesIncomplete", "MDETenantMissing",
		"MDEWatchListBroken", "MDEWatchedDomainContacted",
	}
	var all []posted
	for _, a := range bundled(t) {
		if !slices.Contains(shared, a.Alert) {
			continue
		}
		for tenant := range 40 {
			// Without a job no inhibition applies but between equal tenants: each alert is of other tenants.
			all = append(all, posted{map[string]string{
				"alertname": a.Alert, "severity": severity(t, a), "tenant": fmt.Sprintf("%s-%d", a.Alert, tenant), "domain": "evil.example",
			}})
		}
	}
	body, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+alertmanager.Address+"/api/v2/alerts", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("Alertmanager answers %s", response.Status)
	}
	var messages []servertest.Message
	servertest.Eventually(t, "every alert was sent", func() error {
		messages = webhook.Messages()
		n := 0
		for _, m := range messages {
			n += len(m.Alerts)
		}
		if n < len(all) {
			return fmt.Errorf("%d of %d", n, len(all))
		}
		return nil
	})
	if len(messages) != len(shared) {
		t.Errorf("%d alerts of 40 tenants are %d notifications, want one for each alert", len(shared), len(messages))
	}
}

// TestInhibitionsNameAlertsOfOneGroup keeps a source from being evaluated, and
// so from reaching Alertmanager, up to a whole evaluation interval after its
// target: the rules of one group are evaluated one after the other.
func TestInhibitionsNameAlertsOfOneGroup(t *testing.T) {
	var config struct {
		InhibitRules []struct {
			SourceMatchers []string `yaml:"source_matchers"`
			TargetMatchers []string `yaml:"target_matchers"`
			Equal          []string
		} `yaml:"inhibit_rules"`
	}
	if err := yaml.Unmarshal([]byte(read(t, alertmanagerFile)), &config); err != nil {
		t.Fatal(err)
	}
	all := bundled(t)
	matched := func(matchers []string) (found []alert) {
		pattern := strings.Trim(strings.TrimLeft(strings.TrimPrefix(matchers[0], "alertname"), "=~"), `"`)
		for _, a := range all {
			if regexp.MustCompile("^(?:" + pattern + ")$").MatchString(a.Alert) {
				found = append(found, a)
			}
		}
		names := strings.Count(pattern, "|") + 1
		if len(found) != names {
			t.Errorf("%s matches %d alerts, want %d", matchers[0], len(found), names)
		}
		return found
	}
	if len(config.InhibitRules) == 0 {
		t.Fatal("there are no inhibitions")
	}
	for _, rule := range config.InhibitRules {
		for _, source := range matched(rule.SourceMatchers) {
			for _, target := range matched(rule.TargetMatchers) {
				if slices.Contains(rule.Equal, "alertname") {
					continue // It inhibits itself where it is less severe: one evaluation yields both.
				}
				if source.Group != target.Group {
					t.Errorf("%s of group %s inhibits %s of group %s", source.Alert, source.Group, target.Alert, target.Group)
				}
				if before := slices.IndexFunc(all, func(a alert) bool { return a.Alert == source.Alert }) <
					slices.IndexFunc(all, func(a alert) bool { return a.Alert == target.Alert }); !before {
					t.Errorf("%s is evaluated after %s, which it inhibits", source.Alert, target.Alert)
				}
			}
		}
	}
}
