package main

import (
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	mde "github.com/mde-exporter/mde_exporter/dashboards"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

func TestCommittedDashboardsAreUpToDate(t *testing.T) {
	committed, err := fs.Glob(mde.Files, "*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(committed) != len(dashboards()) {
		t.Errorf("committed dashboards are %v, want %d; run go generate ./dashboards", committed, len(dashboards()))
	}
	for name, d := range dashboards() {
		got, err := fs.ReadFile(mde.Files, name)
		if err != nil {
			t.Errorf("read %s: %v; run go generate ./dashboards", name, err)
			continue
		}
		if diff := cmp.Diff(string(d.json()), string(got)); diff != "" {
			t.Errorf("%s differs from its source; run go generate ./dashboards\n%s", name, diff)
		}
	}
}

// each calls test for every panel of every dashboard.
func each(t *testing.T, test func(*testing.T, *panel)) {
	t.Helper()
	for name, d := range dashboards() {
		for _, r := range d.rows {
			for _, p := range r.panels {
				t.Run(name+"/"+p.title, func(t *testing.T) { test(t, p) })
			}
		}
	}
}

// TestRatesHaveDataWithADefaultDataSource computes $__rate_interval as Grafana does
// for a data source without a scrape interval: the step plus the query's minimum
// step, or four times the minimum step if that is longer. A rate needs two samples,
// and a scrape may be late.
func TestRatesHaveDataWithADefaultDataSource(t *testing.T) {
	const scrapeInterval = time.Minute
	each(t, func(t *testing.T, p *panel) {
		for _, q := range p.queries {
			q := q.(map[string]any)
			if !strings.Contains(q["expr"].(string), "$__rate_interval") {
				continue
			}
			minStep := 15 * time.Second
			step := minStep
			if text, ok := q["interval"].(string); ok {
				minStep = duration(t, text)
				step = minStep
			}
			if p.interval != "" {
				step = max(step, duration(t, p.interval))
			}
			if rate := max(step+minStep, 4*minStep); rate < 3*scrapeInterval {
				t.Errorf("$__rate_interval is %v with scrapes every %v: %s", rate, scrapeInterval, q["expr"])
			}
		}
	})
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var (
	grouped = regexp.MustCompile(`^\w+ by \(([^)]*)\)`)
	named   = regexp.MustCompile(`\{\{(\w+)\}\}`)
)

// TestLegendsNameEveryLabelOfTheQuery checks that two series of a panel, such as
// those of two tenants, have different names.
func TestLegendsNameEveryLabelOfTheQuery(t *testing.T) {
	each(t, func(t *testing.T, p *panel) {
		if p.kind != "timeseries" {
			return
		}
		for _, q := range p.queries {
			q := q.(map[string]any)
			match := grouped.FindStringSubmatch(q["expr"].(string))
			if match == nil {
				continue
			}
			var legend []string
			for _, label := range named.FindAllStringSubmatch(q["legendFormat"].(string), -1) {
				legend = append(legend, label[1])
			}
			for label := range strings.SplitSeq(match[1], ", ") {
				if !slices.Contains(legend, label) {
					t.Errorf("the legend %q does not name %s of %s", q["legendFormat"], label, q["expr"])
				}
			}
		}
	})
}

// TestEmptyPanelsSayWhy checks that a panel without data shows a text, and neither
// 0 nor an empty panel.
func TestEmptyPanelsSayWhy(t *testing.T) {
	each(t, func(t *testing.T, p *panel) {
		if p.title == "Exporters" || p.kind == "text" {
			return // No series means 0 exporters; a text has no query.
		}
		if p.defaults["noValue"] == nil {
			t.Error("the panel has no text for missing data")
		}
		for _, q := range p.queries {
			if expr := q.(map[string]any)["expr"].(string); strings.HasSuffix(expr, "or vector(0)") {
				t.Errorf("unknown is shown as 0 by %s", expr)
			}
		}
	})
}

// TestNumbersHaveThousandsSeparators checks that no panel shows numbers in Grafana's
// default format, and that labels such as builds are not formatted as numbers.
func TestNumbersHaveThousandsSeparators(t *testing.T) {
	each(t, func(t *testing.T, p *panel) {
		if unit := p.defaults["unit"]; unit == nil || unit == "short" {
			t.Errorf("the unit is %v", unit)
		}
	})
	build := column{title: "OS build", label: "os_build"}.override().(map[string]any)
	if diff := cmp.Diff([]any{property("unit", "string")}, build["properties"]); diff != "" {
		t.Errorf("a label (-want +got)\n%s", diff)
	}
}

func TestLevelsAreOrderedBySeverity(t *testing.T) {
	want := []string{"High", "Medium", "Low", "Informational", "UnSpecified", "None", "other"}
	found := 0
	each(t, func(t *testing.T, p *panel) {
		var legends []string
		for _, q := range p.queries {
			legend, _ := q.(map[string]any)["legendFormat"].(string) // A table has none.
			legends = append(legends, legend)
			if strings.Contains(q.(map[string]any)["expr"].(string), "by (risk_score)") {
				t.Error("risk scores are ordered by their number of machines or by name")
			}
		}
		if !slices.Contains(legends, "High") {
			return
		}
		found++
		levels := slices.DeleteFunc(slices.Clone(want), func(level string) bool { return !slices.Contains(legends, level) })
		if diff := cmp.Diff(levels, legends); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
	if found != 6 {
		t.Errorf("%d panels show levels", found)
	}
}

// TestHuntingQueryMatchesDocumentation compares the query with docs/hunting.md,
// except for the values selected at the top of the dashboard.
func TestHuntingQueryMatchesDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/hunting.md")
	if err != nil {
		t.Fatal(err)
	}
	_, documented, _ := strings.Cut(string(page), "```kusto\n")
	documented, _, _ = strings.Cut(documented, "```")
	all := regexp.MustCompile(`\$\{\w+:regex\}`).ReplaceAllString(hunting, ".*")
	if diff := cmp.Diff(documented, all); diff != "" {
		t.Errorf("-docs/hunting.md +hunting.kql\n%s", diff)
	}
	for _, property := range []string{
		simulation.EdrImpairedCommunications, simulation.EdrNoSensorData, simulation.EdrInactive, simulation.AntivirusNotReporting,
		simulation.AntivirusOff, simulation.AntivirusDefinitionsOutdated, simulation.AntivirusEngineOutdated, simulation.AntivirusPlatformOutdated,
	} {
		if !strings.Contains(hunting, `"`+property+`"`) || !strings.Contains(string(page), "`"+property+"` |") {
			t.Errorf("docs/hunting.md or hunting.kql does not find machines with %s", property)
		}
	}
}
