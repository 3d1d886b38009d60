package exporter

import (
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/mde-exporter/mde_exporter/config"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
	"github.com/mde-exporter/mde_exporter/internal/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// simulatedTenant is a simulated tenant that is served until the test ends.
type simulatedTenant struct {
	*simulation.Tenant
	server *simulation.Server
}

func newSimulatedTenant(t *testing.T, o simulation.Options) *simulatedTenant {
	t.Helper()
	simulated := simulation.New(o)
	server, err := simulated.Listen(simulation.ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return &simulatedTenant{simulated, server}
}

// section returns a tenant of the configuration file that uses this simulated
// tenant's endpoints and credentials.
func (s *simulatedTenant) section(name, settings string) string {
	return fmt.Sprintf(`
- name: %s
  azuread: {oauth: {tenant_id: %s, client_id: %s, client_secret: %s}}
  endpoints: {login_url: %q, graph_url: %q, api_url: %q}
%s`, name, s.TenantID(), s.ClientID(), s.ClientSecret(), s.server.LoginURL, s.server.GraphURL, s.server.APIURL, settings)
}

// testExporter is an exporter whose configuration is a temporary file.
type testExporter struct {
	*Exporter
	t    *testing.T
	file string
}

func newTestExporter(t *testing.T, s *storage.Storage, sections ...string) *testExporter {
	t.Helper()
	e := &testExporter{t: t, file: filepath.Join(t.TempDir(), "mde.yml")}
	e.Exporter = New(Options{
		Load:     func() (*config.Config, error) { return config.Load(e.file, config.Overrides{}) },
		Registry: prometheus.NewRegistry(),
		Storage:  s,
		Logger:   slog.New(slog.DiscardHandler),
		Source:   e.file,
	})
	t.Cleanup(e.Close)
	e.write(sections...)
	if err := e.Reload(); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *testExporter) write(sections ...string) {
	e.t.Helper()
	if err := os.WriteFile(e.file, []byte("tenants:"+strings.Join(sections, "")), 0o600); err != nil {
		e.t.Fatal(err)
	}
}

func (e *testExporter) reload(sections ...string) {
	e.t.Helper()
	e.write(sections...)
	if err := e.Reload(); err != nil {
		e.t.Fatal(err)
	}
}

// value returns the value of a series, written as name{label="value",…} with
// sorted labels, and whether it exists.
func (e *testExporter) value(series string) (float64, bool) {
	e.t.Helper()
	families, err := e.Gatherer().Gather()
	if err != nil {
		e.t.Fatal(err)
	}
	name, _, _ := strings.Cut(series, "{")
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && seriesName(f, m) == series {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue(), true
			}
		}
	}
	return 0, false
}

func seriesName(f *dto.MetricFamily, m *dto.Metric) string {
	labels := make([]string, 0, len(m.GetLabel()))
	for _, l := range m.GetLabel() {
		labels = append(labels, l.GetName()+"="+strconv.Quote(l.GetValue()))
	}
	return f.GetName() + "{" + strings.Join(labels, ",") + "}"
}

// tenantSeries returns the names of the series with this tenant label.
func (e *testExporter) tenantSeries(tenant string) []string {
	e.t.Helper()
	families, err := e.Gatherer().Gather()
	if err != nil {
		e.t.Fatal(err)
	}
	var found []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if name := seriesName(f, m); strings.Contains(name, fmt.Sprintf("tenant=%q", tenant)) {
				found = append(found, name)
			}
		}
	}
	return found
}

// eventually waits up to 20 seconds until ok returns true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting until %s", what)
		}
	}
}

func (e *testExporter) awaitReady() {
	e.t.Helper()
	eventually(e.t, "every collector has finished a refresh", e.Ready)
}

const quickDomains = `  watched_domains: {domains: [evil.example], refresh_interval: 1h}
`

func TestReloadRemovesSeriesBeforeItReturns(t *testing.T) {
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10})
	sim.Contact("evil.example", 3)
	section := func(domains string) string {
		return sim.section("contoso", "  watched_domains: {refresh_interval: 1h, domains: ["+domains+"]}\n")
	}
	e := newTestExporter(t, nil, section("evil.example, kept.example"))
	for try := range 20 {
		eventually(t, "the domain has a count", func() bool {
			n, _ := e.value(`mde_watched_domain_machines{domain="evil.example",tenant="contoso"}`)
			return n == 3
		})
		e.reload(section("kept.example"))
		if n, there := e.value(`mde_watched_domain_machines{domain="evil.example",tenant="contoso"}`); there {
			t.Fatalf("try %d: right after the reload the removed domain has %v machines", try, n)
		}
		if n, _ := e.value(`mde_watched_domains{tenant="contoso"}`); n != 1 {
			t.Fatalf("try %d: right after the reload %v domains are watched", try, n)
		}
		e.reload(section("evil.example, kept.example"))
	}
}

func TestReloadKeepsUnchangedCollectorsRunning(t *testing.T) {
	kept := newSimulatedTenant(t, simulation.Options{Machines: 40})
	changed := newSimulatedTenant(t, simulation.Options{Machines: 50})
	changed.Contact("evil.example", 3)
	changed.Contact("bad.example", 4)
	e := newTestExporter(t, nil, kept.section("kept", quickDomains), changed.section("changed", quickDomains))
	e.awaitReady()
	callsToKept := kept.Count(simulation.Every)
	statesOfChanged := changed.Count(simulation.MachineSecurityStates)

	e.reload(kept.section("kept", quickDomains), changed.section("changed", `  watched_domains: {domains: [evil.example, bad.example], refresh_interval: 1h}
`))
	if v, ok := e.value(`mde_watched_domain_machines{domain="evil.example",tenant="changed"}`); !ok || v != 3 {
		t.Errorf("right after the reload an unchanged domain has the value %v, %v", v, ok)
	}
	eventually(t, "the new domain is queried", func() bool {
		v, _ := e.value(`mde_watched_domain_machines{domain="bad.example",tenant="changed"}`)
		return v == 4
	})
	if n := kept.Count(simulation.Every); n != callsToKept {
		t.Errorf("the reload made %d calls for the unchanged tenant", n-callsToKept)
	}
	if n := changed.Count(simulation.MachineSecurityStates); n != statesOfChanged {
		t.Errorf("the reload made %d calls for the unchanged collector", n-statesOfChanged)
	}
	if v, _ := e.value(`mde_refreshes_total{collector="security_states",tenant="changed"}`); v != 1 {
		t.Errorf("the unchanged collector has finished %v refreshes, want 1", v)
	}
}

func TestRemovedTenantLosesItsSeriesAndStore(t *testing.T) {
	kept := newSimulatedTenant(t, simulation.Options{Machines: 10})
	removed := newSimulatedTenant(t, simulation.Options{Machines: 10})
	e := newTestExporter(t, nil, kept.section("kept", quickDomains), removed.section("removed", quickDomains))
	e.awaitReady()
	if len(e.tenantSeries("removed")) == 0 {
		t.Fatal("the tenant has no series to begin with")
	}
	e.reload(kept.section("kept", quickDomains))
	if left := e.tenantSeries("removed"); len(left) > 0 {
		t.Errorf("series of the removed tenant: %v", left)
	}
	if n := len(e.stores); n != 1 {
		t.Errorf("%d tenants have a store, want 1", n)
	}
	if len(e.tenantSeries("kept")) == 0 {
		t.Error("the unchanged tenant lost its series")
	}
}

func TestDisabledCollectorLosesItsSeries(t *testing.T) {
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10})
	e := newTestExporter(t, nil, sim.section("contoso", quickDomains))
	e.awaitReady()
	e.reload(sim.section("contoso", `  watched_domains: {enabled: false}
`))
	for _, series := range e.tenantSeries("contoso") {
		if strings.HasPrefix(series, "mde_watched_domain") || strings.Contains(series, `collector="watched_domains"`) {
			t.Errorf("still exposed: %s", series)
		}
	}
	if v, ok := e.value(`mde_refresh_success{collector="security_states",tenant="contoso"}`); !ok || v != 1 {
		t.Errorf("the other collector's success is %v, %v", v, ok)
	}
}

func TestFailedReloadChangesOnlyReloadMetrics(t *testing.T) {
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10})
	e := newTestExporter(t, nil, sim.section("contoso", quickDomains))
	e.awaitReady()
	before, config := e.tenantSeries("contoso"), string(e.Config())
	e.write(sim.section("contoso", "  unknown_key: 1\n"))
	err := e.Reload()
	if err == nil || !strings.Contains(err.Error(), "unknown key") {
		t.Fatalf("the reload's error is %v", err)
	}
	if v, _ := e.value("mde_exporter_config_last_reload_successful{}"); v != 0 {
		t.Error("the reload gauge is not 0")
	}
	if s := e.Status().Config; !strings.Contains(s.Error, "unknown key") || s.Source != e.file || s.LoadedAt.IsZero() {
		t.Errorf("the page shows %+v", s)
	}
	if after := e.tenantSeries("contoso"); len(after) != len(before) || string(e.Config()) != config {
		t.Errorf("%d series became %d", len(before), len(after))
	}
	e.reload(sim.section("contoso", quickDomains))
	if v, _ := e.value("mde_exporter_config_last_reload_successful{}"); v != 1 {
		t.Error("the reload gauge is not 1 after the mistake is fixed")
	}
}

func TestChangedCredentialKeepsValuesAndQuota(t *testing.T) {
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10})
	sim.Contact("evil.example", 3)
	e := newTestExporter(t, nil, sim.section("contoso", quickDomains))
	e.awaitReady()
	spent, _ := e.value(`mde_api_quota_calls{api="domain_machines",tenant="contoso",window="hour"}`)
	sim.Fail(simulation.Every, simulation.Fault{Hang: true})

	e.reload(strings.Replace(sim.section("contoso", quickDomains), sim.ClientSecret(), "another", 1))
	if v, ok := e.value(`mde_watched_domain_machines{domain="evil.example",tenant="contoso"}`); !ok || v != 3 {
		t.Errorf("the domain's value after the reload is %v, %v", v, ok)
	}
	if v, ok := e.value(`mde_machines{architecture="Amd64",os_build="19045",tenant="contoso"}`); !ok || v == 0 {
		t.Errorf("the fleet after the reload is %v, %v", v, ok)
	}
	if after, _ := e.value(`mde_api_quota_calls{api="domain_machines",tenant="contoso",window="hour"}`); spent == 0 || after < spent {
		t.Errorf("%v calls spent before the reload, %v after it", spent, after)
	}
}

func TestReloadRetriesRejectedPreview(t *testing.T) {
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10, PreviewStatus: http.StatusForbidden})
	section := sim.section("contoso", "  watched_domains: {enabled: false}\n")
	refreshEvery := func(interval string) string {
		return section + "  security_states: {refresh_interval: " + interval + ", max_age: 1m}\n"
	}
	e := newTestExporter(t, nil, refreshEvery("1s"))
	e.awaitReady()
	for name, next := range map[string]string{
		"of the same configuration": refreshEvery("1s"),
		"with another quota":        refreshEvery("1s") + "  quota: {calls_per_hour: 700}\n",
		"with another interval":     refreshEvery("2s"),
	} {
		before := sim.Count(simulation.MachineSecurityStates)
		e.reload(next)
		eventually(t, "after a reload "+name+" the preview is requested", func() bool {
			return sim.Count(simulation.MachineSecurityStates) > before
		})
	}
}

func TestChangedWatchListFilesAreReloaded(t *testing.T) {
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10})
	sim.Contact("new.example", 2)
	list := filepath.Join(t.TempDir(), "list.txt")
	write := func(content string) {
		if err := os.WriteFile(list, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old.example\n")
	e := newTestExporter(t, nil, sim.section("contoso", fmt.Sprintf("  watched_domains: {files: [%q], refresh_interval: 1h}\n", list)))
	e.awaitReady()
	reload := func() {
		e.shared.Load()
		e.tenants["contoso"].runs[1].collector.Reloaded()
	}

	write("new.example # joined\n")
	reload()
	eventually(t, "the new domain is queried", func() bool {
		v, _ := e.value(`mde_watched_domain_machines{domain="new.example",tenant="contoso"}`)
		return v == 2
	})
	if _, ok := e.value(`mde_watched_domain_machines{domain="old.example",tenant="contoso"}`); ok {
		t.Error("the removed domain still has a series")
	}

	write("new.example\nhttp://not-a-domain/\n")
	reload()
	if _, ok := e.value(`mde_watched_domain_machines{domain="new.example",tenant="contoso"}`); !ok {
		t.Error("a mistake in the file dropped the last valid list")
	}
	if notes := strings.Join(e.Status().Tenants[0].Collectors[1].Page.Notes, "\n"); !strings.Contains(notes, list+":2") {
		t.Errorf("the page does not name file and line: %q", notes)
	}
}

func TestInvalidWatchListKeepsLastValidList(t *testing.T) {
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10})
	dir := t.TempDir()
	list := filepath.Join(dir, "list.txt")
	write := func(content string) {
		if err := os.WriteFile(list, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	section := sim.section("contoso", fmt.Sprintf("  watched_domains: {domains: [inline.example], files: [%q, %q], refresh_interval: 1h}\n", list, filepath.Join(dir, "none*.txt")))
	write("right.example\nhttps://wrong.example/\n")
	e := newTestExporter(t, nil, section)
	const gauge = `mde_watched_domains_list_last_read_successful{tenant="contoso"}`
	check := func(when string, successful, domains float64, note string) {
		t.Helper()
		if v, ok := e.value(gauge); !ok || v != successful {
			t.Errorf("%s the gauge is %v, %t, want %v", when, v, ok, successful)
		}
		if n, _ := e.value(`mde_watched_domains{tenant="contoso"}`); n != domains {
			t.Errorf("%s %v domains are watched, want %v", when, n, domains)
		}
		if notes := strings.Join(e.Status().Tenants[0].Collectors[1].Page.Notes, "\n"); (note == "") != !strings.Contains(notes, list) || !strings.Contains(notes, note) {
			t.Errorf("%s the page's notes are %q, want %q", when, notes, note)
		}
	}
	e.awaitReady()
	check("after a start with an invalid list", 0, 2, "Only the valid lines of the watch list")
	write("right.example\nfixed.example\n")
	e.reload(section)
	check("when it is fixed", 1, 3, "")
	write("new.example\nhttps://wrong.example/\n")
	e.reload(section)
	check("when it is invalid again", 0, 3, "The last valid watch list is in force")
	e.reload(strings.Replace(section, "inline.example", "other.example", 1))
	check("after a reload of the tenant", 0, 3, "The last valid watch list is in force")
	if err := os.Remove(list); err != nil {
		t.Fatal(err)
	}
	e.reload(section)
	check("when the file is removed", 0, 3, "The last valid watch list is in force")
	write("")
	e.reload(section)
	check("when it is empty", 1, 1, "")
	e.reload(sim.section("contoso", "  watched_domains: {enabled: false}\n"))
	if v, ok := e.value(gauge); ok {
		t.Errorf("without the collector the gauge is %v", v)
	}
}

func TestOnceReportsFailuresAndExposesOtherTenants(t *testing.T) {
	good := newSimulatedTenant(t, simulation.Options{Machines: 10})
	bad := newSimulatedTenant(t, simulation.Options{Machines: 10, Roles: []string{}, PreviewStatus: 404})
	e := &testExporter{t: t, file: filepath.Join(t.TempDir(), "mde.yml")}
	e.Exporter = New(Options{
		Load:     func() (*config.Config, error) { return config.Load(e.file, config.Overrides{}) },
		Registry: prometheus.NewRegistry(),
		Logger:   slog.New(slog.DiscardHandler),
	})
	t.Cleanup(e.Close)
	e.write(good.section("good", quickDomains), bad.section("bad", quickDomains))
	err := e.Once(t.Context())
	if err == nil || !strings.Contains(err.Error(), "tenant bad: security_states") || !strings.Contains(err.Error(), "Machine.Read.All") {
		t.Errorf("the error lacks tenant, collector or role: %v", err)
	}
	if strings.Contains(fmt.Sprint(err), "tenant good") {
		t.Errorf("the error names the healthy tenant: %v", err)
	}
	if v, _ := e.value(`mde_refresh_success{collector="security_states",tenant="good"}`); v != 1 {
		t.Error("the healthy tenant was not refreshed")
	}
}

func TestCloseDoesNotWaitForHangingAPI(t *testing.T) {
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10})
	sim.Fail(simulation.Every, simulation.Fault{Hang: true})
	e := newTestExporter(t, nil, sim.section("contoso", quickDomains))
	eventually(t, "calls are in progress", func() bool { return len(e.tenantSeries("contoso")) > 0 })
	closed := make(chan struct{})
	go func() {
		e.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Error("Close waits for hanging calls")
	}
	if e.sweepTimer.Stop() {
		t.Error("Close did not stop the sweep timer")
	}
}

func TestReloadReadsWatchListFilesOfUnchangedTenant(t *testing.T) {
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10})
	list := filepath.Join(t.TempDir(), "watched.txt")
	write := func(content string) {
		if err := os.WriteFile(list, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("evil.example\n")
	section := sim.section("contoso", fmt.Sprintf("  watched_domains: {files: [%q], refresh_interval: 1h}\n", list))
	e := newTestExporter(t, nil, section)
	e.awaitReady()
	write("evil.example\nbad.example\n")
	e.reload(section)
	if n, _ := e.value(`mde_watched_domains{tenant="contoso"}`); n != 2 {
		t.Errorf("after the reload %v domains are watched, want 2", n)
	}
}

func TestRestartServesStoredValuesWithoutAPICalls(t *testing.T) {
	sim := newSimulatedTenant(t, simulation.Options{Machines: 30, Roles: []string{simulation.RoleMachines, simulation.RoleScores, simulation.RoleAlerts}})
	sim.Contact("evil.example", 3)
	dir := t.TempDir()
	run := func(check func(*testExporter)) {
		s, err := storage.Open(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		section := sim.section("contoso", quickDomains+"  scores: {enabled: true}\n  alerts: {enabled: true}\n")
		e := newTestExporter(t, s, strings.Replace(section, sim.ClientSecret(), sim.ClientSecret()+", client_secret_expires: 2099-01-31", 1))
		e.awaitReady()
		check(e)
		eventually(t, "the secret's expiry is exposed before the first call", func() bool {
			_, known := e.value(`mde_credential_expiry_timestamp_seconds{tenant="contoso"}`)
			return known
		})
		e.Close()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var read float64
	small := map[string]float64{}
	run(func(e *testExporter) {
		for _, series := range e.tenantSeries("contoso") {
			if strings.Contains(series, "score{") || strings.HasPrefix(series, "mde_unresolved_alerts") {
				small[series], _ = e.value(series)
			}
		}
		read, _ = e.value(`mde_refresh_last_success_timestamp_seconds{collector="security_states",tenant="contoso"}`)
	})
	calls := sim.Count(simulation.Every)
	sim.Fail(simulation.Every, simulation.Fault{Status: 503})
	for range 3 {
		run(func(e *testExporter) {
			var sum float64
			for _, series := range e.tenantSeries("contoso") {
				if strings.HasPrefix(series, "mde_machines{") {
					v, _ := e.value(series)
					sum += v
				}
			}
			if sum != 30 {
				t.Errorf("after a restart the fleet has %v machines, want 30", sum)
			}
			for series, want := range small {
				if v, there := e.value(series); !there || v != want {
					t.Errorf("after a restart %s is %v, %v, want %v", series, v, there, want)
				}
			}
			if v, _ := e.value(`mde_watched_domain_machines{domain="evil.example",tenant="contoso"}`); v != 3 {
				t.Errorf("after a restart the domain has %v machines, want 3", v)
			}
			if v, _ := e.value(`mde_refresh_last_success_timestamp_seconds{collector="security_states",tenant="contoso"}`); math.Abs(v-read) > 1 {
				t.Errorf("the last success is %v, want %v", v, read)
			}
		})
	}
	if n := sim.Count(simulation.Every); n != calls {
		t.Errorf("the restarts made %d calls", n-calls)
	}
}

func TestFailingTenantsDoNotAffectOthers(t *testing.T) {
	healthy := newSimulatedTenant(t, simulation.Options{Machines: 10})
	var sections []string
	for _, fault := range []simulation.Fault{{Hang: true}, {Status: 429, RetryAfter: "3600"}, {Status: 500}, {Reset: true}, {Body: "{"}} {
		sim := newSimulatedTenant(t, simulation.Options{Machines: 10})
		sim.Fail(simulation.Every, fault)
		sections = append(sections, sim.section(fmt.Sprintf("failing-%d", len(sections)), quickDomains))
	}
	e := newTestExporter(t, nil, append(sections, healthy.section("healthy", quickDomains))...)
	eventually(t, "the healthy tenant is refreshed", func() bool {
		states, _ := e.value(`mde_refresh_success{collector="security_states",tenant="healthy"}`)
		domains, _ := e.value(`mde_refresh_success{collector="watched_domains",tenant="healthy"}`)
		return states == 1 && domains == 1
	})
}

func TestStorageSuccessIsExposedOnlyWithStorage(t *testing.T) {
	const series = "mde_exporter_storage_success{}"
	var none *storage.Storage
	s, err := storage.Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		success func() bool
		want    float64
		exposed bool
	}{
		{"no storage", nil, 0, false},
		{"storage", s.Success, 1, true},
		{"an unusable directory", none.Success, 0, true},
	} {
		e := &testExporter{t: t}
		e.Exporter = New(Options{Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler), StorageSuccess: test.success})
		if v, ok := e.value(series); v != test.want || ok != test.exposed {
			t.Errorf("%s: %v, %v; want %v, %v", test.name, v, ok, test.want, test.exposed)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTenantGathererReturnsOnlySelectedTenants(t *testing.T) {
	sim := newSimulatedTenant(t, simulation.Options{Machines: 20, MultiTenant: true})
	e := newTestExporter(t, nil, sim.section("contoso", quickDomains), sim.section("fabrikam", quickDomains), sim.section("contoso-2", quickDomains))
	e.awaitReady()
	series := func(names ...string) map[string]bool {
		t.Helper()
		g, ok := e.TenantGatherer(names)
		if !ok {
			t.Fatalf("TenantGatherer(%q) returned false", names)
		}
		families, err := g.Gather()
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]bool{}
		for _, f := range families {
			for _, m := range f.Metric {
				all[seriesName(f, m)] = true
			}
		}
		return all
	}
	for _, names := range [][]string{{"contoso"}, {"contoso", "fabrikam"}, {"contoso", "contoso"}} {
		eventually(t, fmt.Sprintf("the series of %q match", names), func() bool {
			want := map[string]bool{}
			for _, name := range names {
				for _, s := range e.tenantSeries(name) {
					want[s] = true
				}
			}
			return len(want) > 0 && maps.Equal(want, series(names...))
		})
	}
	for s := range series("contoso") {
		if !strings.Contains(s, `tenant="contoso"`) {
			t.Errorf("contoso has %s", s)
		}
	}
	for _, names := range [][]string{{"unknown"}, {"contoso", "unknown"}, {""}, {"Contoso"}} {
		if _, ok := e.TenantGatherer(names); ok {
			t.Errorf("TenantGatherer(%q) returned true", names)
		}
	}
	e.reload(sim.section("fabrikam", quickDomains))
	if _, ok := e.TenantGatherer([]string{"contoso"}); ok {
		t.Error("TenantGatherer returned true for a removed tenant")
	}
}
