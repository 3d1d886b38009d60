package alerts_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/mde-exporter/mde_exporter/alerts"
	"github.com/mde-exporter/mde_exporter/internal/servertest"
)

type alert struct {
	Group               string `yaml:"-"`
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

// bundled are the alerting rules of the bundled files.
func bundled(t *testing.T) []alert {
	t.Helper()
	var all []alert
	files, err := fs.Glob(alerts.Files, "*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("the bundled files are %v, %v", files, err)
	}
	for _, name := range files {
		content, err := fs.ReadFile(alerts.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Groups []struct {
				Name  string
				Rules []alert
			}
		}
		if err := yaml.Unmarshal(content, &file); err != nil {
			t.Fatal(err)
		}
		for _, group := range file.Groups {
			for _, a := range group.Rules {
				if a.Group = group.Name; a.Alert != "" {
					all = append(all, a)
				}
			}
		}
	}
	return all
}

var (
	listSeverity    = regexp.MustCompile(`tenant_list:mde_contact_severity\{contact="(\w+)"\}`)
	defaultSeverity = regexp.MustCompile(`tenant_list:mde_contact_severity:default, labels: \{contact: (\w+), severity: (\w+)\}`)
)

// severity is the severity of an alert: its label, of two the one in general, or
// the default of the table by list that its expression takes it from.
func severity(t *testing.T, a alert) string {
	t.Helper()
	if general := regexp.MustCompile(`\{\{ else \}\}(\w+)\{\{ end \}\}`).FindStringSubmatch(a.Labels["severity"]); general != nil {
		return general[1]
	}
	table := listSeverity.FindStringSubmatch(a.Expr)
	if table == nil || a.Labels["severity"] != "" {
		return a.Labels["severity"]
	}
	for _, entry := range defaultSeverity.FindAllStringSubmatch(read(t, "mde.yaml"), -1) {
		if entry[1] == table[1] {
			return entry[2]
		}
	}
	return ""
}

func TestEachAlertTellsWhoMustActAndWhatToDo(t *testing.T) {
	runbooks, err := os.ReadFile("../docs/runbooks.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for section := range strings.SplitSeq(string(runbooks), "\n### ") {
		title, body, _ := strings.Cut(section, "\n")
		body, _, _ = strings.Cut(body, "\n## ")
		sections[title] = body
	}
	names := map[string]bool{}
	for _, a := range bundled(t) {
		t.Run(a.Alert, func(t *testing.T) {
			if names[a.Alert] {
				t.Error("there are two alerts of this name, for one runbook")
			}
			names[a.Alert] = true
			if severity := severity(t, a); !slices.Contains([]string{"critical", "warning", "info"}, severity) {
				t.Errorf("severity is %q, want critical, warning or info", severity)
			}
			for _, key := range []string{"summary", "description"} {
				if a.Annotations[key] == "" {
					t.Errorf("it has no %s", key)
				}
			}
			want := "https://github.com/mde-exporter/mde_exporter/blob/main/docs/runbooks.md#" + strings.ToLower(a.Alert)
			if a.Annotations["runbook_url"] != want {
				t.Errorf("runbook_url is %q, want %q", a.Annotations["runbook_url"], want)
			}
			for _, heading := range []string{"**Meaning.**", "**Impact.**", "**Diagnosis.**", "**What to do.**", "```promql"} {
				if !strings.Contains(sections[a.Alert], heading) {
					t.Errorf("its section in docs/runbooks.md has no %s", heading)
				}
			}
		})
	}
	for title := range sections {
		if strings.HasPrefix(title, "MDE") && !names[title] {
			t.Errorf("docs/runbooks.md has a section %s, which is no alert", title)
		}
	}
}

func TestRunbooksLinkToSectionsThatExist(t *testing.T) {
	runbooks, err := os.ReadFile("../docs/runbooks.md")
	if err != nil {
		t.Fatal(err)
	}
	headings := map[string]bool{}
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(runbooks), -1) {
		headings[strings.ReplaceAll(strings.ToLower(heading[1]), " ", "-")] = true
	}
	for _, link := range regexp.MustCompile(`\]\(([^)#:]*)(#[^)]*)?\)`).FindAllStringSubmatch(string(runbooks), -1) {
		if link[1] != "" {
			if _, err := os.Stat(filepath.Join("../docs", link[1])); err != nil {
				t.Errorf("link to %s: %v", link[1], err)
			}
		} else if !headings[strings.TrimPrefix(link[2], "#")] {
			t.Errorf("link to %s, which is no heading", link[2])
		}
	}
}

func TestEachAlertHasUnitTestsInWhichItFiresAndInWhichItDoesNot(t *testing.T) {
	files, err := filepath.Glob("tests/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("the unit tests are %v, %v", files, err)
	}
	firing, calm := map[string]bool{}, map[string]bool{}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Tests []struct {
				Cases []struct {
					Name   string `yaml:"alertname"`
					Alerts []any  `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			}
		}
		if err := yaml.Unmarshal(content, &file); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, test := range file.Tests {
			for _, c := range test.Cases {
				firing[c.Name] = firing[c.Name] || len(c.Alerts) > 0
				calm[c.Name] = calm[c.Name] || len(c.Alerts) == 0
			}
		}
	}
	for _, a := range bundled(t) {
		if !firing[a.Alert] {
			t.Errorf("no unit test sees %s fire", a.Alert)
		}
		if !calm[a.Alert] {
			t.Errorf("no unit test sees %s not fire", a.Alert)
		}
	}
}

// TestRulesPassTheirUnitTests takes minutes of processor time, so that go test
// alone skips it; make rules runs it by itself.
func TestRulesPassTheirUnitTests(t *testing.T) {
	if !servertest.Required() {
		t.Skip("make rules runs the unit tests of the rules")
	}
	promtool := servertest.Find(t, "promtool")
	tests, err := filepath.Glob("tests/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	commands := [][]string{{"check", "rules", "mde.yaml"}}
	for _, test := range tests {
		commands = append(commands, []string{"test", "rules", test})
	}
	for _, args := range commands {
		t.Run("promtool "+strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			command := exec.CommandContext(t.Context(), promtool, args...)
			command.Env = append(os.Environ(), "GOGC=400") // It spends most of its time on small objects.
			output, err := command.CombinedOutput()
			t.Logf("%s", output)
			if err != nil {
				t.Error(err)
			}
		})
	}
}
