// Package promql checks the queries in dashboards, rules and documentation with
// Prometheus's parser. It is a separate module, so that the exporter does not depend on
// Prometheus.
package promql

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"github.com/mde-exporter/mde_exporter/alerts"
	"github.com/mde-exporter/mde_exporter/dashboards"
)

// query is an expression and its location.
type query struct{ where, expr string }

// TestQueriesUseDocumentedMetrics parses every query and checks its metrics and labels
// against docs/metrics.md. Tests of the collectors compare that page with the
// exposition.
func TestQueriesUseDocumentedMetrics(t *testing.T) {
	known := documented(t)
	rules, recorded := ruleQueries(t)
	maps.Copy(known, recorded)
	every := map[string]bool{"le": true}
	for _, labels := range known {
		maps.Copy(every, labels)
	}
	parse := parser.NewParser(parser.Options{})

	for _, q := range slices.Concat(rules, dashboardQueries(t), documentQueries(t)) {
		expr, err := parse.ParseExpr(q.expr)
		if err != nil {
			t.Errorf("%s: %v\n%s", q.where, err, q.expr)
			continue
		}
		parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
			switch n := node.(type) {
			case *parser.VectorSelector:
				labels, ok := known[n.Name]
				if base := histogramPart.ReplaceAllString(n.Name, ""); !ok && base != n.Name {
					labels, ok = known[base]
				}
				if !ok {
					t.Errorf("%s: no metric is named %s\n%s", q.where, n.Name, q.expr)
					return nil
				}
				for _, m := range n.LabelMatchers {
					if m.Name != "__name__" && !labels[m.Name] {
						t.Errorf("%s: %s has no label %s\n%s", q.where, n.Name, m.Name, q.expr)
					}
				}
			case *parser.AggregateExpr:
				checkLabels(t, q, every, n.Grouping)
			case *parser.BinaryExpr:
				if n.VectorMatching != nil {
					checkLabels(t, q, every, n.VectorMatching.MatchingLabels)
				}
			}
			return nil
		})
	}
}

var histogramPart = regexp.MustCompile(`_(bucket|sum|count)$`)

func checkLabels(t *testing.T, q query, known map[string]bool, labels []string) {
	t.Helper()
	for _, label := range labels {
		if !known[label] {
			t.Errorf("%s: no metric has the label %s\n%s", q.where, label, q.expr)
		}
	}
}

var (
	metricRow = regexp.MustCompile("(?m)^\\| `(mde_\\w+)` \\|([^|]*)\\|")
	word      = regexp.MustCompile("`(\\w+)`")
)

// documented returns the labels of each metric in docs/metrics.md and of metrics that
// Prometheus and Go add.
func documented(t *testing.T) map[string]map[string]bool {
	t.Helper()
	metrics := map[string]map[string]bool{}
	for _, name := range []string{
		"up", "scrape_duration_seconds", "process_resident_memory_bytes", "process_cpu_seconds_total",
	} {
		metrics[name] = set("job", "instance")
	}
	metrics["ALERTS_FOR_STATE"] = set("job", "instance", "tenant", "alertname", "severity")
	metrics["ALERTS"] = set("job", "instance", "tenant", "alertname", "severity", "alertstate")
	for _, row := range metricRow.FindAllStringSubmatch(read(t, "../../docs/metrics.md"), -1) {
		labels := set("job", "instance")
		if !strings.HasPrefix(row[1], "mde_exporter_") {
			labels["tenant"] = true
		}
		for _, label := range word.FindAllStringSubmatch(row[2], -1) {
			labels[label[1]] = true
		}
		metrics[row[1]] = labels
	}
	if len(metrics) < 30 {
		t.Fatalf("docs/metrics.md has only %v", slices.Sorted(maps.Keys(metrics)))
	}
	return metrics
}

// ruleQueries returns the expressions of the bundled rules. The recorded metrics have
// the labels of the level before the first colon and those that the rule sets.
func ruleQueries(t *testing.T) (queries []query, recorded map[string]map[string]bool) {
	t.Helper()
	recorded = map[string]map[string]bool{}
	levels := map[string]map[string]bool{
		"tenant":                set("job", "tenant"),
		"tenant_domain":         set("job", "tenant", "domain"),
		"tenant_list":           set("job", "tenant", "list"),
		"tenant_device_group":   set("job", "tenant", "device_group"),
		"tenant_property":       set("job", "tenant", "property"),
		"tenant_build_property": set("job", "tenant", "os_build", "architecture", "property"),
		"tenant_collector":      set("job", "tenant", "collector"),
		"instance":              set("job", "instance"),
		"property":              set("property"),
	}
	err := fs.WalkDir(alerts.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(alerts.Files, path)
		if err != nil {
			return err
		}
		var file struct {
			Groups []struct {
				Rules []struct {
					Record, Alert, Expr string
					Labels              map[string]string
				}
			}
		}
		if err := yaml.Unmarshal(content, &file); err != nil {
			return err
		}
		for _, group := range file.Groups {
			for _, rule := range group.Rules {
				queries = append(queries, query{path + ": " + rule.Record + rule.Alert, rule.Expr})
				if rule.Record != "" {
					level, _, _ := strings.Cut(rule.Record, ":")
					if levels[level] == nil {
						return fmt.Errorf("%s: unknown level %q", rule.Record, level)
					}
					// A user may override a default record with a record named :own.
					// The name without a suffix is the one in force.
					inForce := strings.TrimSuffix(rule.Record, ":default")
					for _, name := range []string{rule.Record, inForce, inForce + ":own"} {
						if recorded[name] == nil {
							recorded[name] = maps.Clone(levels[level])
						}
						for label := range rule.Labels {
							recorded[name][label] = true
						}
					}
				}
			}
		}
		return nil
	})
	if err != nil || len(queries) == 0 {
		t.Fatalf("%d rules, %v", len(queries), err)
	}
	return queries, recorded
}

// variables replaces Grafana's variables by example values.
var variables = strings.NewReplacer(
	"$__rate_interval", "4m", "$__range_s", "21600", "$__range", "6h", "$__interval", "1m", "$job", "mde", "$tenant", "contoso|fabrikam", "$domain", ".*")

var labelValues = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)

// dashboardQueries returns the queries of all panels and variables.
func dashboardQueries(t *testing.T) []query {
	t.Helper()
	var queries []query
	files, err := fs.Glob(dashboards.Files, "*.json")
	if err != nil {
		t.Fatal(err)
	}
	type panel struct {
		Title   string
		Targets []struct{ Expr string }
	}
	for _, name := range files {
		content, err := fs.ReadFile(dashboards.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			Panels []struct {
				panel
				Panels []panel // Panels of a collapsed row.
			}
			Annotations struct {
				List []struct {
					Name   string
					Target struct{ Expr string }
				}
			}
			Templating struct {
				List []struct {
					Name, Type string
					Query      any
				}
			}
		}
		if err := json.Unmarshal(content, &d); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, a := range d.Annotations.List {
			queries = append(queries, query{name + ": annotations " + a.Name, variables.Replace(a.Target.Expr)})
		}
		for _, p := range d.Panels {
			for _, p := range append(p.Panels, p.panel) {
				for _, target := range p.Targets {
					queries = append(queries, query{fmt.Sprintf("%s: %s", name, p.Title), variables.Replace(target.Expr)})
				}
			}
		}
		for _, v := range d.Templating.List {
			if v.Type != "query" {
				continue
			}
			text := v.Query.(map[string]any)["query"].(string)
			match := labelValues.FindStringSubmatch(text)
			if match == nil {
				t.Fatalf("%s: variable %s: %s", name, v.Name, text)
			}
			queries = append(queries, query{
				name + ": variable " + v.Name,
				fmt.Sprintf("count by (%s) (%s)", match[2], variables.Replace(match[1])),
			})
		}
	}
	if len(queries) < 50 {
		t.Fatalf("only %d queries in dashboards", len(queries))
	}
	return queries
}

var promqlBlock = regexp.MustCompile("(?s)```promql\n(.*?)```")

// documentQueries returns the queries in promql blocks of the documentation: one per
// line, with indented continuation lines.
func documentQueries(t *testing.T) []query {
	t.Helper()
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	var queries []query
	for _, file := range append(files, "../../README.md") {
		for _, block := range promqlBlock.FindAllStringSubmatch(read(t, file), -1) {
			for expr := range strings.SplitSeq(strings.ReplaceAll(strings.TrimSpace(block[1]), "\n ", " "), "\n") {
				queries = append(queries, query{filepath.Base(file), expr})
			}
		}
	}
	if len(queries) < 30 {
		t.Fatalf("only %d queries in documentation", len(queries))
	}
	return queries
}

func set(names ...string) map[string]bool {
	s := map[string]bool{}
	for _, name := range names {
		s[name] = true
	}
	return s
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
