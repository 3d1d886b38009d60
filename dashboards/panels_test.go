package dashboards_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mde-exporter/mde_exporter/alerts"
	"github.com/mde-exporter/mde_exporter/dashboards"
	"github.com/mde-exporter/mde_exporter/internal/servertest"
)

// history is a set of series in the OpenMetrics format, with a sample each minute.
type history struct {
	text strings.Builder
	now  time.Time
}

// series writes a series of a job between two ages.
func (h *history) series(job, name string, value float64, from, to time.Duration) {
	metric, labels, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
	for age := from; age >= to; age -= time.Minute {
		fmt.Fprintf(&h.text, "%s{job=%q,instance=%q,%s} %v %d\n", metric, job, "exporter:10058", labels, value, h.now.Add(-age).Unix())
	}
}

// current writes a series of the last ten minutes.
func (h *history) current(job, name string, value float64) {
	h.series(job, name, value, 10*time.Minute, 0)
}

// yesterday writes a series around the same time yesterday.
func (h *history) yesterday(job, name string, value float64) {
	h.series(job, name, value, 24*time.Hour+10*time.Minute, 24*time.Hour-10*time.Minute)
}

// age writes the last success of a collector, by its age.
func (h *history) age(job, labels string, age time.Duration) {
	h.current(job, "mde_refresh_last_success_timestamp_seconds{"+labels+"}", float64(h.now.Add(-age).Unix()))
}

// load starts a Prometheus with the series and the alert rules, and without targets.
func (h *history) load(t *testing.T) *servertest.Prometheus {
	t.Helper()
	servertest.Find(t, "prometheus")
	promtool := servertest.Find(t, "promtool")
	dir := t.TempDir()
	file := filepath.Join(dir, "history")
	if err := os.WriteFile(file, []byte(h.text.String()+"# EOF\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.CommandContext(t.Context(), promtool, "tsdb", "create-blocks-from", "openmetrics", "-q", file, filepath.Join(dir, "data")).CombinedOutput(); err != nil {
		t.Fatalf("promtool: %v\n%s", err, output)
	}
	if err := os.CopyFS(filepath.Join(dir, "rules"), alerts.Files); err != nil {
		t.Fatal(err)
	}
	prometheus := servertest.StartPrometheus(t, dir, "global: {evaluation_interval: 1s}\nrule_files: [rules/*.yaml]\n")
	prometheus.Await(t, "the rules are evaluated", func() error {
		recorded, err := prometheus.Query("tenant_domain:mde_watched_domain_machines_unprotected:max and on () tenant:mde_threshold")
		if err == nil && len(recorded) == 0 {
			err = errors.New("not yet")
		}
		return err
	})
	return prometheus
}

// shown is a panel of a dashboard's file.
type shown struct {
	Title, Type string
	Targets     []struct{ RefID, Expr, LegendFormat string }
	FieldConfig struct {
		Defaults  fieldConfig
		Overrides []struct {
			Matcher    struct{ Options string }
			Properties []struct {
				ID    string
				Value json.RawMessage
			}
		}
	}
	Transformations []struct {
		ID      string
		Options struct {
			Sort         []struct{ Field string }
			LimitField   int
			RenameByName map[string]string
		}
	}
}

type fieldConfig struct {
	NoValue  string
	Mappings []struct {
		Type    string
		Options json.RawMessage
	}
}

// text returns how a value is shown, without its unit.
func (c fieldConfig) text(value float64, known bool) string {
	if !known {
		return c.NoValue
	}
	for _, m := range c.Mappings {
		type result struct{ Text string }
		switch m.Type {
		case "value":
			var words map[string]result
			if json.Unmarshal(m.Options, &words) == nil {
				if word, ok := words[strconv.FormatFloat(value, 'f', -1, 64)]; ok {
					return word.Text
				}
			}
		case "range":
			var r struct {
				From, To float64
				Result   result
			}
			if json.Unmarshal(m.Options, &r) == nil && value >= r.From && value <= r.To {
				return r.Result.Text
			}
		}
	}
	return strconv.FormatFloat(value, 'g', 13, 64)
}

// find returns a panel by its kind and title.
func find(t *testing.T, dashboard, kind, title string) shown {
	t.Helper()
	content, err := fs.ReadFile(dashboards.Files, dashboard)
	if err != nil {
		t.Fatal(err)
	}
	var d struct{ Panels []shown }
	if err := json.Unmarshal(content, &d); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(d.Panels, func(p shown) bool { return p.Type == kind && p.Title == title })
	if i < 0 {
		t.Fatalf("%s has no %s %q", dashboard, kind, title)
	}
	return d.Panels[i]
}

// query evaluates an expression of a dashboard for one job, with a time range of
// six hours.
func query(t *testing.T, prometheus *servertest.Prometheus, job, expr string) []servertest.Sample {
	t.Helper()
	samples, err := prometheus.Query(strings.NewReplacer(
		"$__range_s", "21600", "$__range", "6h", "$__rate_interval", "4m", "$__interval", "10m",
		"$job", job, "$tenant", ".*", "$domain", ".*", "$device_group", ".*").Replace(expr))
	if err != nil {
		t.Fatal(err)
	}
	return samples
}

// table returns the rows of a table by the titles of its columns. It applies the
// transformations merge, sortBy, limit and organize.
func table(t *testing.T, prometheus *servertest.Prometheus, dashboard, title, job string) []map[string]string {
	t.Helper()
	p := find(t, dashboard, "table", title)
	type row struct {
		labels map[string]string
		values map[string]float64
	}
	var rows []*row
	byLabels := map[string]*row{}
	for _, target := range p.Targets {
		for _, s := range query(t, prometheus, job, target.Expr) {
			delete(s.Labels, "__name__")
			key := fmt.Sprint(s.Labels)
			if byLabels[key] == nil {
				byLabels[key] = &row{s.Labels, map[string]float64{}}
				rows = append(rows, byLabels[key])
			}
			byLabels[key].values["Value #"+target.RefID] = s.Value
		}
	}
	names := map[string]string{}
	for _, transformation := range p.Transformations {
		switch o := transformation.Options; transformation.ID {
		case "sortBy":
			slices.SortStableFunc(rows, func(a, b *row) int {
				x, knownX := a.values[o.Sort[0].Field]
				y, knownY := b.values[o.Sort[0].Field]
				switch {
				case knownX != knownY && knownX, x > y:
					return -1
				case knownX != knownY, x < y:
					return 1
				default:
					return strings.Compare(fmt.Sprint(a.labels), fmt.Sprint(b.labels))
				}
			})
		case "limit":
			rows = rows[:min(len(rows), o.LimitField)]
		case "organize":
			names = o.RenameByName
		}
	}
	fields := map[string]fieldConfig{}
	for _, o := range p.FieldConfig.Overrides {
		field := p.FieldConfig.Defaults
		for _, property := range o.Properties {
			var into any
			switch property.ID {
			case "noValue":
				into = &field.NoValue
			case "mappings":
				into = &field.Mappings
			default:
				continue
			}
			if err := json.Unmarshal(property.Value, into); err != nil {
				t.Fatal(err)
			}
		}
		fields[o.Matcher.Options] = field
	}
	cells := make([]map[string]string, len(rows))
	for i, r := range rows {
		cells[i] = map[string]string{}
		for field, name := range names {
			if label, ok := r.labels[field]; ok {
				cells[i][name] = label
			} else if strings.HasPrefix(field, "Value") {
				value, known := r.values[field]
				cells[i][name] = fields[name].text(value, known)
			}
		}
	}
	return cells
}

// stat returns what a stat shows.
func stat(t *testing.T, prometheus *servertest.Prometheus, dashboard, title, job string) string {
	t.Helper()
	p := find(t, dashboard, "stat", title)
	var texts []string
	for _, target := range p.Targets {
		for _, s := range query(t, prometheus, job, target.Expr) {
			texts = append(texts, strings.TrimSpace(p.FieldConfig.Defaults.text(s.Value, true)+" "+target.LegendFormat))
		}
	}
	if texts == nil {
		return p.FieldConfig.Defaults.NoValue
	}
	return strings.Join(texts, ", ")
}

// columns returns some columns of the first rows, joined for comparison.
func columns(rows []map[string]string, limit int, titles ...string) []string {
	var lines []string
	for _, row := range rows[:min(limit, len(rows))] {
		var cells []string
		for _, title := range titles {
			cells = append(cells, row[title])
		}
		lines = append(lines, strings.Join(cells, " | "))
	}
	return lines
}

// mixedTenants writes 40 tenants: t01 to t05 failed and were never read, the values
// of t06 were withdrawn, t07 failed once and still has its values, t08 reads its
// watch list for the first time, t09 waits for its first response, and the others
// succeeded.
func (h *history) mixedTenants(job string) {
	for i := 1; i <= 40; i++ {
		tenant := fmt.Sprintf(`tenant="t%02d"`, i)
		h.current(job, "mde_watched_domains{"+tenant+"}", 2)
		h.current(job, "mde_watched_domains_interval_seconds{"+tenant+"}", 900)
		for _, collector := range []string{"security_states", "watched_domains"} {
			labels := tenant + fmt.Sprintf(",collector=%q", collector)
			h.current(job, "mde_refresh_interval_seconds{"+labels+"}", 900)
			filling := i == 8 && collector == "watched_domains" || i == 9
			if i != 9 {
				success := 1.0
				if i <= 7 {
					success = 0
				}
				if !filling {
					h.current(job, "mde_refresh_success{"+labels+"}", success)
				}
				h.current(job, "mde_refresh_failures_total{"+labels+`,reason="server"}`, 1-success)
				h.current(job, "mde_refresh_duration_seconds{"+labels+"}", 1)
			}
			switch {
			case i <= 5 || filling:
			case i == 6:
				h.age(job, labels, 2*time.Hour)
			case i == 7:
				h.age(job, labels, 20*time.Minute)
			default:
				h.age(job, labels, 2*time.Minute)
			}
		}
		if i <= 6 || i == 9 {
			continue
		}
		machines := tenant + `,os_build="26100",architecture="Amd64"`
		h.current(job, "mde_machines{"+machines+"}", 100)
		h.current(job, "mde_machines_requiring_attention{"+machines+"}", float64(i))
		domains := []string{"a.example", "b.example"}
		if i == 8 {
			domains = domains[:1]
		}
		for _, domain := range domains {
			labels := tenant + fmt.Sprintf(",domain=%q", domain)
			h.current(job, "mde_watched_domain_machines{"+labels+"}", 0)
			h.current(job, "mde_watched_domain_last_success_timestamp_seconds{"+labels+"}", float64(h.now.Add(-2*time.Minute).Unix()))
		}
	}
}

// comparedTenants writes a tenant with values of both days, one that is new today
// and one whose values were withdrawn today.
func (h *history) comparedTenants(job string) {
	for _, tenant := range []struct {
		name                  string
		yesterday, today      float64
		wasThere, isThere, up bool
	}{
		{name: "both", yesterday: 10, today: 15, wasThere: true, isThere: true},
		{name: "new", today: 70, isThere: true},
		{name: "withdrawn", yesterday: 90, wasThere: true},
	} {
		labels := fmt.Sprintf(`tenant=%q,os_build="26100",architecture="Amd64"`, tenant.name)
		for _, day := range []struct {
			write func(job, name string, value float64)
			there bool
			value float64
		}{{h.yesterday, tenant.wasThere, tenant.yesterday}, {h.current, tenant.isThere, tenant.today}} {
			if day.there {
				day.write(job, "mde_machines{"+labels+"}", 100)
				day.write(job, "mde_machines_requiring_attention{"+labels+"}", day.value)
				day.write(job, "mde_machines_attention{"+labels+`,property="AntivirusOff"}`, day.value)
				day.write(job, fmt.Sprintf(`mde_device_group_machines_requiring_attention{tenant=%q,device_group="Servers"}`, tenant.name), day.value)
			}
		}
		h.current(job, fmt.Sprintf(`mde_refresh_interval_seconds{tenant=%q,collector="security_states"}`, tenant.name), 900)
	}
}

// contactedDomains writes domains that were first contacted before the range, within
// it, and before their first count.
func (h *history) contactedDomains(job string) {
	write := func(domain string, machines float64, from, to time.Duration) {
		h.series(job, fmt.Sprintf(`mde_watched_domain_machines{tenant="t",domain=%q}`, domain), machines, from, to)
	}
	write("before.example", 3, 8*time.Hour, 0)
	write("within.example", 0, 8*time.Hour, 2*time.Hour)
	write("within.example", 4, 2*time.Hour-time.Minute, 0)
	// The count is 0 for a minute between two steps of the query.
	brief := h.now.Sub(h.now.Add(-2 * time.Hour).Truncate(10 * time.Minute).Add(2 * time.Minute))
	write("brief.example", 2, 8*time.Hour, brief+time.Minute)
	write("brief.example", 0, brief, brief)
	write("brief.example", 6, brief-time.Minute, 0)
	write("added.example", 5, time.Hour, 0)
}

// staleList writes a tenant with two lists: one is read every 15 minutes, and its
// oldest value is 45 minutes old; the other is read daily, and its oldest value is
// two hours old.
func (h *history) staleList(job string) {
	const collector = `tenant="t",collector="watched_domains"`
	h.current(job, "mde_refresh_interval_seconds{"+collector+"}", 3600)
	h.current(job, "mde_refresh_success{"+collector+"}", 0)
	h.age(job, collector, 2*time.Hour)
	h.current(job, `mde_watched_domains_interval_seconds{tenant="t"}`, 86400)
	for _, list := range []struct {
		name     string
		interval float64
		age      time.Duration
	}{{"c2", 900, 45 * time.Minute}, {"unwanted", 86400, 2 * time.Hour}} {
		labels := fmt.Sprintf(`tenant="t",list=%q`, list.name)
		h.current(job, "mde_watched_domain_list_interval_seconds{"+labels+"}", list.interval)
		h.current(job, "mde_watched_domain_list_last_success_timestamp_seconds{"+labels+"}", float64(h.now.Add(-list.age).Unix()))
	}
}

func TestPanelsShowOnlyWhatIsKnown(t *testing.T) {
	h := &history{now: time.Now().Truncate(time.Second)}
	h.mixedTenants("mixed")
	h.comparedTenants("compared")
	h.contactedDomains("contacted")
	h.staleList("lists")
	// There is no history of yesterday.
	h.current("today", `mde_machines{tenant="t",os_build="26100",architecture="Amd64"}`, 100)
	h.current("today", `mde_machines_attention{tenant="t",os_build="26100",architecture="Amd64",property="AntivirusOff"}`, 10)
	// Nothing was read and nothing failed yet. The job absent has no series.
	for _, collector := range []string{"security_states", "watched_domains"} {
		h.current("starting", fmt.Sprintf(`mde_refresh_interval_seconds{tenant="t",collector=%q}`, collector), 900)
	}
	h.current("starting", `mde_watched_domains{tenant="t"}`, 10_000)
	// No machine requires attention.
	h.current("sound", `mde_machines{tenant="t",os_build="26100",architecture="Amd64"}`, 100)
	h.current("sound", `mde_watched_domain_machines{tenant="t",domain="a.example"}`, 3)
	h.current("counted", `mde_watched_domains{tenant="t"}`, 1)
	h.current("counted", `mde_watched_domain_machines{tenant="t",domain="a.example"}`, 3)
	// One domain was not contacted, the other name is invalid.
	h.current("zero", `mde_watched_domains{tenant="t"}`, 2)
	h.current("zero", `mde_watched_domain_machines{tenant="t",domain="a.example"}`, 0)
	h.current("zero", `mde_watched_domain_invalid{tenant="t",domain="b"}`, 1)
	// A domain was contacted in a tenant without security states.
	h.current("joinless", `mde_watched_domain_machines{tenant="t",domain="a.example"}`, 3)
	// A machine with old signatures is not unprotected, one without antivirus is.
	for job, property := range map[string]string{"outdated": "AntivirusDefinitionsOutOfDate", "off": "AntivirusOff"} {
		h.current(job, `mde_machines{tenant="t",os_build="26100",architecture="Amd64"}`, 100)
		h.current(job, `mde_watched_domain_machines{tenant="t",domain="a.example"}`, 3)
		h.current(job, fmt.Sprintf(`mde_watched_domain_machines_attention{tenant="t",domain="a.example",property=%q}`, property), 2)
	}
	prometheus := h.load(t)

	t.Run("firing alerts", func(t *testing.T) {
		for _, dashboard := range []string{"exporter.json", "fleet.json", "watched-domains.json"} {
			want := []string{"MDEWatchedDomainContacted | warning | t | a.example"}
			var got []string
			prometheus.Await(t, "the alert fires", func() error {
				got = columns(table(t, prometheus, dashboard, "Firing alerts", "off"), 9, "Alert", "Severity", "Tenant", "Domain")
				if len(got) == 0 {
					return errors.New("no alert")
				}
				return nil
			})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got)\n%s", dashboard, diff)
			}
		}
	})
	t.Run("collectors", func(t *testing.T) {
		rows := table(t, prometheus, "exporter.json", "Collectors", "mixed")
		if len(rows) != 80 {
			t.Errorf("%d rows, want 80 collectors", len(rows))
		}
		want := []string{}
		for i := 1; i <= 5; i++ {
			want = append(want, fmt.Sprintf("t%02d | failed | never | never", i), fmt.Sprintf("t%02d | failed | never | never", i))
		}
		want = append(want,
			"t06 | failed", "t06 | failed", "t07 | failed", "t07 | failed",
			"t08 | filling | – | –", "t09 | not yet | – | –", "t09 | filling | – | –")
		got := columns(rows, 10, "Tenant", "Last refresh", "Age", "Intervals")
		slices.Sort(got)
		got = append(got, columns(rows[10:], 4, "Tenant", "Last refresh")...)
		filling := columns(rows[14:], 3, "Tenant", "Last refresh", "Age", "Intervals")
		slices.Sort(filling)
		slices.Sort(want[14:])
		if diff := cmp.Diff(want, append(got, filling...)); diff != "" {
			t.Errorf("the first rows (-want +got)\n%s", diff)
		}
	})
	t.Run("a list that is read often", func(t *testing.T) {
		// Its age counts in its own interval, not in the longest one.
		got := []string{stat(t, prometheus, "exporter.json", "Oldest, in intervals", "lists"), stat(t, prometheus, "watched-domains.json", "Oldest, in intervals", "lists")}
		for _, row := range table(t, prometheus, "exporter.json", "Collectors", "lists") {
			got = append(got, row["Intervals"])
		}
		if len(got) != 3 {
			t.Fatalf("%d collectors, want 1", len(got)-2)
		}
		for _, text := range got {
			if intervals, err := strconv.ParseFloat(text, 64); err != nil || intervals < 3 || intervals > 4 {
				t.Errorf("the age is %q intervals, want 3", text)
			}
		}
	})
	t.Run("tenants", func(t *testing.T) {
		rows := table(t, prometheus, "fleet.json", "Tenants", "mixed")
		if len(rows) != 40 {
			t.Errorf("%d rows, want 40 tenants", len(rows))
		}
		want := []string{}
		for i := 1; i <= 5; i++ {
			want = append(want, fmt.Sprintf("t%02d | never read | unknown | unknown | never", i))
		}
		want = append(want, "t06 | withdrawn | unknown | unknown | 7200", "t09 | not yet read | unknown | unknown | –", "t40 | current | 100 | 0.4 | 120")
		got := columns(rows, 8, "Tenant", "Numbers", "Machines", "Share", "Counted")
		got[5] = got[5][:strings.LastIndex(got[5], "|")+1] + " 7200" // It grows while the test runs.
		if len(got) > 7 {
			got[7] = got[7][:strings.LastIndex(got[7], "|")+1] + " 120"
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the first rows (-want +got)\n%s", diff)
		}
		last := columns(rows[len(rows)-2:], 2, "Tenant", "Numbers")
		if diff := cmp.Diff([]string{"t08 | current", "t07 | not refreshed"}, last); diff != "" {
			t.Errorf("the last rows (-want +got)\n%s", diff)
		}
	})
	t.Run("tenants sorted by alerts", func(t *testing.T) {
		rows := table(t, prometheus, "tenants.json", "Tenants", "mixed")
		if len(rows) != 40 {
			t.Errorf("%d rows, want 40 tenants", len(rows))
		}
		want := []string{}
		for i := 1; i <= 5; i++ {
			want = append(want, fmt.Sprintf("t%02d | never read | unknown | unknown | unknown | 0", i))
		}
		want = append(want, "t06 | withdrawn | unknown | unknown | unknown | 0", "t09 | not yet read | unknown | unknown | unknown | 0", "t40 | current | 100 | unknown | 0.4 | 0")
		if diff := cmp.Diff(want, columns(rows, 8, "Tenant", "Numbers", "Machines", "Coverage", "Attention", "Critical")); diff != "" {
			t.Errorf("the first rows (-want +got)\n%s", diff)
		}
		got := columns(table(t, prometheus, "tenants.json", "Tenants", "off"), 9, "Tenant", "Warning", "Domains contacted")
		if diff := cmp.Diff([]string{"t | 1 | 1"}, got); diff != "" {
			t.Errorf("firing alerts (-want +got)\n%s", diff)
		}
	})
	t.Run("watch lists", func(t *testing.T) {
		rows := table(t, prometheus, "watched-domains.json", "Watch lists", "mixed")
		if len(rows) != 40 {
			t.Errorf("%d rows, want 40 tenants", len(rows))
		}
		want := []string{}
		for i := 1; i <= 5; i++ {
			want = append(want, fmt.Sprintf("t%02d | failed | 2 | 2 | unknown", i))
		}
		want = append(want, "t06 | failed | 2 | 2 | unknown", "t07 | failed | 2 | 0 | 0", "t09 | filling | 2 | 2 | unknown", "t08 | filling | 2 | 1 | 0", "t10 | succeeded | 2 | 0 | 0")
		if diff := cmp.Diff(want, columns(rows, 10, "Tenant", "Last refresh", "Domains", "Without a count", "Contacted")); diff != "" {
			t.Errorf("the first rows (-want +got)\n%s", diff)
		}
	})
	t.Run("since yesterday", func(t *testing.T) {
		const title = "What got worse since yesterday"
		if rows := table(t, prometheus, "fleet.json", title, "today"); len(rows) != 0 {
			t.Errorf("rows without history of yesterday: %v", rows)
		}
		if reason := find(t, "fleet.json", "table", title).FieldConfig.Defaults.NoValue; !strings.Contains(reason, "yesterday") {
			t.Errorf("the text without history of yesterday is %q", reason)
		}
		got := columns(table(t, prometheus, "fleet.json", title, "compared"), 9, "Property", "Machines", "Since yesterday")
		if diff := cmp.Diff([]string{"AntivirusOff | 15 | 5"}, got); diff != "" {
			t.Errorf("properties (-want +got)\n%s", diff)
		}
		got = columns(table(t, prometheus, "fleet.json", "Builds and architectures with the most machines that require attention", "compared"), 9, "OS build", "Require attention", "Since yesterday")
		if diff := cmp.Diff([]string{"26100 | 85 | 5"}, got); diff != "" {
			t.Errorf("builds (-want +got)\n%s", diff)
		}
		got = columns(table(t, prometheus, "coverage.json", "Device groups", "compared"), 9, "Device group", "Require attention", "Since yesterday")
		if diff := cmp.Diff([]string{"Servers | 85 | 5"}, got); diff != "" {
			t.Errorf("device groups (-want +got)\n%s", diff)
		}
		got = columns(table(t, prometheus, "fleet.json", "Tenants", "compared"), 9, "Tenant", "Since yesterday")
		slices.Sort(got)
		if diff := cmp.Diff([]string{"both | 5", "new | –", "withdrawn | –"}, got); diff != "" {
			t.Errorf("tenants (-want +got)\n%s", diff)
		}
	})
	t.Run("contacted since", func(t *testing.T) {
		since := map[string]string{}
		// The step of the query is ten minutes.
		from, to := h.now.Add(-2*time.Hour-10*time.Minute), h.now.Add(-2*time.Hour+time.Minute)
		for _, row := range table(t, prometheus, "watched-domains.json", "Contacted domains", "contacted") {
			since[row["Domain"]] = row["Contacted since"]
			if ms, err := strconv.ParseInt(row["Contacted since"], 10, 64); err == nil && ms >= from.UnixMilli() && ms <= to.UnixMilli() {
				since[row["Domain"]] = "two hours ago"
			}
		}
		want := map[string]string{"before.example": "before this range", "within.example": "two hours ago", "brief.example": "within this range", "added.example": "at first count"}
		if diff := cmp.Diff(want, since); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})

	stats := map[[2]string]map[string]string{
		{"exporter.json", "Failing collectors"}:             {"mixed": "14", "starting": "no refresh yet", "absent": "no refresh yet"},
		{"exporter.json", "Oldest, in intervals"}:           {"mixed": "never", "starting": "no refresh yet"},
		{"fleet.json", "Require attention"}:                 {"starting": "no data", "sound": "no data"},
		{"fleet.json", "Since yesterday"}:                   {"compared": "0.05", "today": "no history yet"},
		{"fleet.json", "Most frequent problem"}:             {"starting": "no data", "sound": "0 {{property}}"},
		{"fleet.json", "Tenants without numbers"}:           {"mixed": "7", "starting": "1", "absent": "no tenant"},
		{"fleet.json", "Oldest count"}:                      {"mixed": "never", "starting": "no count yet"},
		{"watched-domains.json", "Contacted domains"}:       {"mixed": "none known", "counted": "1", "contacted": "4", "starting": "none known", "zero": "0"},
		{"watched-domains.json", "New within a day"}:        {"mixed": "none known", "contacted": "2", "starting": "none known", "zero": "0"},
		{"watched-domains.json", "By unprotected machines"}: {"mixed": "none known", "sound": "0", "outdated": "0", "off": "1", "joinless": "none known", "starting": "none known", "zero": "0"},
		{"watched-domains.json", "Largest count"}:           {"mixed": "none known", "contacted": "6", "starting": "none known", "zero": "0"},
		{"watched-domains.json", "Without a count"}:         {"mixed": "15 failed", "counted": "0 all counted", "zero": "0 all counted", "starting": "10000 filling", "absent": "no list"},
		{"watched-domains.json", "Oldest, in intervals"}:    {"mixed": "never", "starting": "no full round yet"},
	}
	for _, panel := range slices.SortedFunc(maps.Keys(stats), func(a, b [2]string) int { return strings.Compare(a[0]+a[1], b[0]+b[1]) }) {
		t.Run(panel[0]+"/"+panel[1], func(t *testing.T) {
			for job, want := range stats[panel] {
				if got := stat(t, prometheus, panel[0], panel[1], job); got != want {
					t.Errorf("%s: shows %q, want %q", job, got, want)
				}
			}
		})
	}
}
