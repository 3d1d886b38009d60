package dashboards_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/alerts"
	"github.com/mde-exporter/mde_exporter/dashboards"
	"github.com/mde-exporter/mde_exporter/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// silent maps the panels, or lines of panels, that have no data in the demo to the
// reason.
var silent = map[string]string{
	"Credential expires in":                "the demo signs in with a secret",
	"Risk/other":                           "the demo has documented levels only",
	"Exposure/other":                       "the demo has documented levels only",
	"Of these, machines at risk/other":     "the demo has documented levels only",
	"Unresolved alerts, by severity/other": "the demo has documented severities only",
	"Invalid names":                        "the demo watches no invalid name",
	"Without a count/failed":               "no refresh of the demo fails",
	"Without a count/filling":              "the demo's watch list is short",
}

type file struct {
	Panels []struct {
		panel
		Panels []panel // of a folded row
	}
	Templating struct {
		List []struct {
			Name, Type string
			Query      any
		}
	}
}

type panel struct {
	Title   string
	Targets []struct {
		Expr         string
		LegendFormat string
		Instant      bool
	}
}

// TestEveryPanelHasDataInTheDemo runs the queries of all panels on a Prometheus that
// scrapes the demo. For panels that compare with yesterday, the current values of
// the demo are also backfilled a day ago.
func TestEveryPanelHasDataInTheDemo(t *testing.T) {
	servertest.Find(t, "prometheus")
	exporter := servertest.Exporter(t, "--demo", "--storage.path="+t.TempDir())
	servertest.Eventually(t, "the demo is ready", func() error {
		_, err := get(exporter.URL() + "/-/ready")
		return err
	})
	dir := t.TempDir()
	backfill(t, exporter, filepath.Join(dir, "data"))
	if err := os.CopyFS(filepath.Join(dir, "rules"), alerts.Files); err != nil {
		t.Fatal(err)
	}
	prometheus := servertest.StartPrometheus(t, dir, fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [rules/*.yaml]
scrape_configs:
- job_name: mde
  static_configs: [{targets: [%q]}]
`, exporter.Address))
	servertest.Eventually(t, "calls are scraped twice and grow", func() error {
		seen, err := prometheus.Query(`count_over_time(mde_api_requests_total{api="domain_machines"}[1m]) > 5 and on () sum(increase(mde_api_requests_total[1h])) > 0`)
		if err == nil && len(seen) == 0 {
			err = fmt.Errorf("not yet")
		}
		return err
	})

	names, err := fs.Glob(dashboards.Files, "*.json")
	if err != nil || len(names) != 6 {
		t.Fatalf("dashboards: %v, %v", names, err)
	}
	for _, name := range names {
		var d file
		content, err := fs.ReadFile(dashboards.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(content, &d); err != nil {
			t.Fatal(err)
		}
		all, chosen := variables(t, prometheus, d)
		for _, p := range d.Panels {
			for _, p := range append(p.Panels, p.panel) {
				t.Run(name+"/"+p.Title, func(t *testing.T) {
					for _, target := range p.Targets {
						for _, values := range []*strings.Replacer{all, chosen} {
							show(t, prometheus, values.Replace(target.Expr), target.Instant, cmp.Or(silent[p.Title], silent[p.Title+"/"+target.LegendFormat]))
						}
					}
				})
			}
		}
	}
}

// show runs one query as Grafana does, over the last minute or for now.
func show(t *testing.T, prometheus *servertest.Prometheus, expr string, instant bool, silence string) {
	t.Helper()
	var found int
	if instant {
		samples, err := prometheus.Query(expr)
		if err != nil {
			t.Fatal(err)
		}
		found = len(samples)
	} else {
		now := time.Now()
		points, err := prometheus.QueryRange(expr, now.Add(-time.Minute), now, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		found = len(points)
	}
	if found == 0 && silence == "" {
		t.Errorf("no data for %s", expr)
	}
	if found > 0 && silence != "" {
		t.Errorf("%d series, want none: %s", found, silence)
	}
}

var labelValues = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)

// variables resolves the dashboard's variables in their order. It returns replacers
// that select all values, and the first value of each.
func variables(t *testing.T, prometheus *servertest.Prometheus, d file) (all, chosen *strings.Replacer) {
	t.Helper()
	grafana := []string{"$__rate_interval", "15s", "$__range_s", "60", "$__range", "60s", "$__interval", "1s"}
	alls, firsts := grafana, grafana
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		text := v.Query.(map[string]any)["query"].(string)
		match := labelValues.FindStringSubmatch(strings.NewReplacer(alls...).Replace(text))
		if match == nil {
			t.Fatalf("variable %s is %s", v.Name, text)
		}
		values, err := prometheus.LabelValues(match[2], match[1])
		if err != nil || len(values) == 0 {
			t.Fatalf("variable %s has the values %v, %v", v.Name, values, err)
		}
		first := values[0]
		if v.Name == "domain" {
			first = strings.Join(values, "|") // The first one may never have been contacted.
		}
		alls = append(alls, "$"+v.Name, ".*")
		firsts = append(firsts, "$"+v.Name, first)
	}
	return strings.NewReplacer(alls...), strings.NewReplacer(firsts...)
}

var exposed = regexp.MustCompile(`^(mde_\w+)(?:\{(.*)\})? (\S+)$`)

// backfill writes the current exposition into Prometheus's data, for an hour around
// the same time yesterday.
func backfill(t *testing.T, exporter *servertest.Process, data string) {
	t.Helper()
	exposition, err := get(exporter.URL() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	var history strings.Builder
	yesterday := time.Now().Add(-24 * time.Hour)
	for line := range strings.Lines(exposition) {
		match := exposed.FindStringSubmatch(strings.TrimSpace(line))
		if match == nil {
			continue
		}
		labels := fmt.Sprintf("job=%q,instance=%q", "mde", exporter.Address)
		if match[2] != "" {
			labels += "," + match[2]
		}
		for offset := -30 * time.Minute; offset <= 30*time.Minute; offset += time.Minute {
			fmt.Fprintf(&history, "%s{%s} %s %d\n", match[1], labels, match[3], yesterday.Add(offset).Unix())
		}
	}
	history.WriteString("# EOF\n")
	path := filepath.Join(t.TempDir(), "history")
	if err := os.WriteFile(path, []byte(history.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool := servertest.Find(t, "promtool")
	if output, err := exec.Command(promtool, "tsdb", "create-blocks-from", "openmetrics", "-q", path, data).CombinedOutput(); err != nil {
		t.Fatalf("promtool: %v\n%s", err, output)
	}
}

func get(url string) (string, error) {
	response, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return string(body), err
}
