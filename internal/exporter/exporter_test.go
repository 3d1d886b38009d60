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

// farEnd is a simulated tenant that is served for the length of a test.
type farEnd struct {
	*simulation.Tenant
	server *simulation.Server
}

func newFarEnd(t *testing.T, o simulation.Options) *farEnd {
	t.Helper()
	simulated := simulation.New(o)
	server, err := simulated.Listen(simulation.ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return &farEnd{simulated, server}
}

// section is a tenant of the configuration file that this far end serves.
func (f *farEnd) section(name, settings string) string {
	return fmt.Sprintf(`
- name: %s
  azuread: {oauth: {tenant_id: %s, client_id: %s, client_secret: %s}}
  endpoints: {login_url: %q, graph_url: %q, api_url: %q}
%s`, name, f.TenantID(), f.ClientID(), f.ClientSecret(), f.server.LoginURL, f.server.GraphURL, f.server.APIURL, settings)
}

// world is an exporter whose configuration is a file of the test.
type world struct {
	*Exporter
	t    *testing.T
	file string
}

func newWorld(t *testing.T, s *storage.Storage, sections ...string) *world {
	t.Helper()
	w := &world{t: t, file: filepath.Join(t.TempDir(), "mde.yml")}
	w.Exporter = New(Options{
		Load:     func() (*config.Config, error) { return config.Load(w.file, config.Overrides{}) },
		Registry: prometheus.NewRegistry(),
		Storage:  s,
		Logger:   slog.New(slog.DiscardHandler),
		Source:   w.file,
	})
	t.Cleanup(w.Close)
	w.write(sections...)
	if err := w.Reload(); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) write(sections ...string) {
	w.t.Helper()
	if err := os.WriteFile(w.file, []byte("tenants:"+strings.Join(sections, "")), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) reload(sections ...string) {
	w.t.Helper()
	w.write(sections...)
	if err := w.Reload(); err != nil {
		w.t.Fatal(err)
	}
}

// value returns the value of a series, given as name{label="value",…} with its
// labels in the order of the alphabet.
func (w *world) value(series string) (float64, bool) {
	w.t.Helper()
	families, err := w.Gatherer().Gather()
	if err != nil {
		w.t.Fatal(err)
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

// tenantSeries are the series that carry the tenant's label.
func (w *world) tenantSeries(tenant string) []string {
	w.t.Helper()
	families, err := w.Gatherer().Gather()
	if err != nil {
		w.t.Fatal(err)
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

// eventually waits for what another goroutine does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", what)
		}
	}
}

func (w *world) awaitReady() {
	w.t.Helper()
	eventually(w.t, "every collector has finished a refresh", w.Ready)
}

const quickDomains = `  watched_domains: {domains: [evil.example], refresh_interval: 1h}
`

func TestWhatAReloadRemovesIsGoneWhenItReturns(t *testing.T) {
	far := newFarEnd(t, simulation.Options{Machines: 10})
	far.Contact("evil.example", 3)
	section := func(domains string) string {
		return far.section("contoso", "  watched_domains: {refresh_interval: 1h, domains: ["+domains+"]}\n")
	}
	w := newWorld(t, nil, section("evil.example, kept.example"))
	for try := range 20 {
		eventually(t, "the domain has a count", func() bool {
			n, _ := w.value(`mde_watched_domain_machines{domain="evil.example",tenant="contoso"}`)
			return n == 3
		})
		w.reload(section("kept.example"))
		if n, there := w.value(`mde_watched_domain_machines{domain="evil.example",tenant="contoso"}`); there {
			t.Fatalf("try %d: right after the reload the removed domain has %v machines", try, n)
		}
		if n, _ := w.value(`mde_watched_domains{tenant="contoso"}`); n != 1 {
			t.Fatalf("try %d: right after the reload %v domains are watched", try, n)
		}
		w.reload(section("evil.example, kept.example"))
	}
}

func TestAReloadLeavesAloneWhatDidNotChange(t *testing.T) {
	kept := newFarEnd(t, simulation.Options{Machines: 40})
	changed := newFarEnd(t, simulation.Options{Machines: 50})
	changed.Contact("evil.example", 3)
	changed.Contact("bad.example", 4)
	w := newWorld(t, nil, kept.section("kept", quickDomains), changed.section("changed", quickDomains))
	w.awaitReady()
	callsToKept := kept.Count(simulation.Every)
	statesOfChanged := changed.Count(simulation.MachineSecurityStates)

	w.reload(kept.section("kept", quickDomains), changed.section("changed", `  watched_domains: {domains: [evil.example, bad.example], refresh_interval: 1h}
`))
	if v, ok := w.value(`mde_watched_domain_machines{domain="evil.example",tenant="changed"}`); !ok || v != 3 {
		t.Errorf("right after the reload a domain that stayed has the value %v, %v", v, ok)
	}
	eventually(t, "the new domain is asked", func() bool {
		v, _ := w.value(`mde_watched_domain_machines{domain="bad.example",tenant="changed"}`)
		return v == 4
	})
	if n := kept.Count(simulation.Every); n != callsToKept {
		t.Errorf("the reload cost the tenant that did not change %d calls", n-callsToKept)
	}
	if n := changed.Count(simulation.MachineSecurityStates); n != statesOfChanged {
		t.Errorf("the reload cost the collector that did not change %d calls", n-statesOfChanged)
	}
	if v, _ := w.value(`mde_refreshes_total{collector="security_states",tenant="changed"}`); v != 1 {
		t.Errorf("the collector that did not change has finished %v refreshes, want its one", v)
	}
}

func TestATenantThatIsGoneLeavesNothing(t *testing.T) {
	stays := newFarEnd(t, simulation.Options{Machines: 10})
	goes := newFarEnd(t, simulation.Options{Machines: 10})
	w := newWorld(t, nil, stays.section("stays", quickDomains), goes.section("goes", quickDomains))
	w.awaitReady()
	if len(w.tenantSeries("goes")) == 0 {
		t.Fatal("the tenant has no series to begin with")
	}
	w.reload(stays.section("stays", quickDomains))
	if left := w.tenantSeries("goes"); len(left) > 0 {
		t.Errorf("series of the tenant that is gone: %v", left)
	}
	if n := len(w.stores); n != 1 {
		t.Errorf("values of %d tenants are kept for their next collectors, want those of the one that stays", n)
	}
	if len(w.tenantSeries("stays")) == 0 {
		t.Error("the tenant that stays lost its series")
	}
}

func TestACollectorThatIsSwitchedOffLosesItsSeries(t *testing.T) {
	far := newFarEnd(t, simulation.Options{Machines: 10})
	w := newWorld(t, nil, far.section("contoso", quickDomains))
	w.awaitReady()
	w.reload(far.section("contoso", `  watched_domains: {enabled: false}
`))
	for _, series := range w.tenantSeries("contoso") {
		if strings.HasPrefix(series, "mde_watched_domain") || strings.Contains(series, `collector="watched_domains"`) {
			t.Errorf("left behind: %s", series)
		}
	}
	if v, ok := w.value(`mde_refresh_success{collector="security_states",tenant="contoso"}`); !ok || v != 1 {
		t.Errorf("the other collector's success is %v, %v", v, ok)
	}
}

func TestAMistakeChangesNothingButItsGauge(t *testing.T) {
	far := newFarEnd(t, simulation.Options{Machines: 10})
	w := newWorld(t, nil, far.section("contoso", quickDomains))
	w.awaitReady()
	before, config := w.tenantSeries("contoso"), string(w.Config())
	w.write(far.section("contoso", "  unknown_key: 1\n"))
	err := w.Reload()
	if err == nil || !strings.Contains(err.Error(), "unknown key") {
		t.Fatalf("the reload's error is %v", err)
	}
	if v, _ := w.value("mde_exporter_config_last_reload_successful{}"); v != 0 {
		t.Error("the gauge does not tell")
	}
	if s := w.Status().Config; !strings.Contains(s.Error, "unknown key") || s.Source != w.file || s.LoadedAt.IsZero() {
		t.Errorf("the page has %+v", s)
	}
	if after := w.tenantSeries("contoso"); len(after) != len(before) || string(w.Config()) != config {
		t.Errorf("%d series became %d", len(before), len(after))
	}
	w.reload(far.section("contoso", quickDomains))
	if v, _ := w.value("mde_exporter_config_last_reload_successful{}"); v != 1 {
		t.Error("the gauge does not show that the mistake is fixed")
	}
}

func TestAnotherCredentialKeepsValuesAndQuota(t *testing.T) {
	far := newFarEnd(t, simulation.Options{Machines: 10})
	far.Contact("evil.example", 3)
	w := newWorld(t, nil, far.section("contoso", quickDomains))
	w.awaitReady()
	spent, _ := w.value(`mde_api_quota_calls{api="domain_machines",tenant="contoso",window="hour"}`)
	far.Fail(simulation.Every, simulation.Fault{Hang: true})

	w.reload(strings.Replace(far.section("contoso", quickDomains), far.ClientSecret(), "another", 1))
	if v, ok := w.value(`mde_watched_domain_machines{domain="evil.example",tenant="contoso"}`); !ok || v != 3 {
		t.Errorf("the domain's value after the reload is %v, %v", v, ok)
	}
	if v, ok := w.value(`mde_machines{architecture="Amd64",os_build="19045",tenant="contoso"}`); !ok || v == 0 {
		t.Errorf("the fleet after the reload is %v, %v", v, ok)
	}
	if after, _ := w.value(`mde_api_quota_calls{api="domain_machines",tenant="contoso",window="hour"}`); spent == 0 || after < spent {
		t.Errorf("%v calls were spent before the reload, %v after it", spent, after)
	}
}

func TestAReloadLooksAgainForAPreviewThatWasRefused(t *testing.T) {
	far := newFarEnd(t, simulation.Options{Machines: 10, PreviewStatus: http.StatusForbidden})
	section := far.section("contoso", "  watched_domains: {enabled: false}\n")
	refreshEach := func(interval string) string {
		return section + "  security_states: {refresh_interval: " + interval + ", max_age: 1m}\n"
	}
	w := newWorld(t, nil, refreshEach("1s"))
	w.awaitReady()
	for name, next := range map[string]string{
		"of the same configuration": refreshEach("1s"),
		"with another quota":        refreshEach("1s") + "  quota: {calls_per_hour: 700}\n",
		"with another interval":     refreshEach("2s"),
	} {
		before := far.Count(simulation.MachineSecurityStates)
		w.reload(next)
		eventually(t, "after a reload "+name+" the preview is asked", func() bool {
			return far.Count(simulation.MachineSecurityStates) > before
		})
	}
}

func TestWatchListFilesAreReadAgainWhenTheyChange(t *testing.T) {
	far := newFarEnd(t, simulation.Options{Machines: 10})
	far.Contact("new.example", 2)
	list := filepath.Join(t.TempDir(), "list.txt")
	write := func(content string) {
		if err := os.WriteFile(list, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old.example\n")
	w := newWorld(t, nil, far.section("contoso", fmt.Sprintf("  watched_domains: {files: [%q], refresh_interval: 1h}\n", list)))
	w.awaitReady()
	readAgain := func() {
		w.shared.Load()
		w.tenants["contoso"].runs[1].collector.Reloaded()
	}

	write("new.example # joined\n")
	readAgain()
	eventually(t, "the new domain is asked", func() bool {
		v, _ := w.value(`mde_watched_domain_machines{domain="new.example",tenant="contoso"}`)
		return v == 2
	})
	if _, ok := w.value(`mde_watched_domain_machines{domain="old.example",tenant="contoso"}`); ok {
		t.Error("the domain that left the list still has a series")
	}

	write("new.example\nhttp://not-a-domain/\n")
	readAgain()
	if _, ok := w.value(`mde_watched_domain_machines{domain="new.example",tenant="contoso"}`); !ok {
		t.Error("a mistake in the file cost the last good list")
	}
	if notes := strings.Join(w.Status().Tenants[0].Collectors[1].Page.Notes, "\n"); !strings.Contains(notes, list+":2") {
		t.Errorf("the page's notes do not name the file and the line: %q", notes)
	}
}

func TestABrokenWatchListStopsNothing(t *testing.T) {
	far := newFarEnd(t, simulation.Options{Machines: 10})
	dir := t.TempDir()
	list := filepath.Join(dir, "list.txt")
	write := func(content string) {
		if err := os.WriteFile(list, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	section := far.section("contoso", fmt.Sprintf("  watched_domains: {domains: [inline.example], files: [%q, %q], refresh_interval: 1h}\n", list, filepath.Join(dir, "none*.txt")))
	write("right.example\nhttps://wrong.example/\n")
	w := newWorld(t, nil, section)
	const gauge = `mde_watched_domains_list_last_read_successful{tenant="contoso"}`
	check := func(when string, successful, domains float64, note string) {
		t.Helper()
		if v, ok := w.value(gauge); !ok || v != successful {
			t.Errorf("%s the gauge is %v, %t, want %v", when, v, ok, successful)
		}
		if n, _ := w.value(`mde_watched_domains{tenant="contoso"}`); n != domains {
			t.Errorf("%s %v domains are watched, want %v", when, n, domains)
		}
		if notes := strings.Join(w.Status().Tenants[0].Collectors[1].Page.Notes, "\n"); (note == "") != !strings.Contains(notes, list) || !strings.Contains(notes, note) {
			t.Errorf("%s the page's notes are %q, want %q", when, notes, note)
		}
	}
	w.awaitReady()
	check("after a start with a broken list", 0, 2, "Only the lines of the watch list that are right")
	write("right.example\nfixed.example\n")
	w.reload(section)
	check("when it is fixed", 1, 3, "")
	write("new.example\nhttps://wrong.example/\n")
	w.reload(section)
	check("when it breaks again", 0, 3, "The last good watch list stays in force")
	w.reload(strings.Replace(section, "inline.example", "other.example", 1))
	check("after a reload of the tenant", 0, 3, "The last good watch list stays in force")
	if err := os.Remove(list); err != nil {
		t.Fatal(err)
	}
	w.reload(section)
	check("when it is gone", 0, 3, "The last good watch list stays in force")
	write("")
	w.reload(section)
	check("when it is empty", 1, 1, "")
	w.reload(far.section("contoso", "  watched_domains: {enabled: false}\n"))
	if v, ok := w.value(gauge); ok {
		t.Errorf("without the collector the gauge is %v", v)
	}
}

func TestOnceTellsWhatFailedAndExposesTheRest(t *testing.T) {
	good := newFarEnd(t, simulation.Options{Machines: 10})
	bad := newFarEnd(t, simulation.Options{Machines: 10, Roles: []string{}, PreviewStatus: 404})
	w := &world{t: t, file: filepath.Join(t.TempDir(), "mde.yml")}
	w.Exporter = New(Options{
		Load:     func() (*config.Config, error) { return config.Load(w.file, config.Overrides{}) },
		Registry: prometheus.NewRegistry(),
		Logger:   slog.New(slog.DiscardHandler),
	})
	t.Cleanup(w.Close)
	w.write(good.section("good", quickDomains), bad.section("bad", quickDomains))
	err := w.Once(t.Context())
	if err == nil || !strings.Contains(err.Error(), "tenant bad: security_states") || !strings.Contains(err.Error(), "Machine.Read.All") {
		t.Errorf("the error does not name tenant, collector and role: %v", err)
	}
	if strings.Contains(fmt.Sprint(err), "tenant good") {
		t.Errorf("the error blames the tenant that is well: %v", err)
	}
	if v, _ := w.value(`mde_refresh_success{collector="security_states",tenant="good"}`); v != 1 {
		t.Error("the tenant that is well was not refreshed")
	}
}

func TestClosingDoesNotWaitForAHangingAPI(t *testing.T) {
	far := newFarEnd(t, simulation.Options{Machines: 10})
	far.Fail(simulation.Every, simulation.Fault{Hang: true})
	w := newWorld(t, nil, far.section("contoso", quickDomains))
	eventually(t, "calls are under way", func() bool { return len(w.tenantSeries("contoso")) > 0 })
	closed := make(chan struct{})
	go func() {
		w.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Error("the exporter waits for calls that never end")
	}
	if w.sweepTimer.Stop() {
		t.Error("the exporter would sweep its storage after it was closed")
	}
}

func TestAReloadReadsTheWatchListFilesOfATenantThatStays(t *testing.T) {
	far := newFarEnd(t, simulation.Options{Machines: 10})
	list := filepath.Join(t.TempDir(), "watched.txt")
	write := func(content string) {
		if err := os.WriteFile(list, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("evil.example\n")
	section := far.section("contoso", fmt.Sprintf("  watched_domains: {files: [%q], refresh_interval: 1h}\n", list))
	w := newWorld(t, nil, section)
	w.awaitReady()
	write("evil.example\nbad.example\n")
	w.reload(section)
	if n, _ := w.value(`mde_watched_domains{tenant="contoso"}`); n != 2 {
		t.Errorf("after the reload %v domains are watched, want 2", n)
	}
}

func TestARestartServesTheStoredValuesAndCallsNobody(t *testing.T) {
	far := newFarEnd(t, simulation.Options{Machines: 30, Roles: []string{simulation.RoleMachines, simulation.RoleScores, simulation.RoleAlerts}})
	far.Contact("evil.example", 3)
	dir := t.TempDir()
	run := func(check func(*world)) {
		s, err := storage.Open(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		section := far.section("contoso", quickDomains+"  scores: {enabled: true}\n  alerts: {enabled: true}\n")
		w := newWorld(t, s, strings.Replace(section, far.ClientSecret(), far.ClientSecret()+", client_secret_expires: 2099-01-31", 1))
		w.awaitReady()
		check(w)
		eventually(t, "the expiry of the secret is known before the first call", func() bool {
			_, known := w.value(`mde_credential_expiry_timestamp_seconds{tenant="contoso"}`)
			return known
		})
		w.Close()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var read float64
	small := map[string]float64{}
	run(func(w *world) {
		for _, series := range w.tenantSeries("contoso") {
			if strings.Contains(series, "score{") || strings.HasPrefix(series, "mde_unresolved_alerts") {
				small[series], _ = w.value(series)
			}
		}
		read, _ = w.value(`mde_refresh_last_success_timestamp_seconds{collector="security_states",tenant="contoso"}`)
	})
	calls := far.Count(simulation.Every)
	far.Fail(simulation.Every, simulation.Fault{Status: 503})
	for range 3 {
		run(func(w *world) {
			var sum float64
			for _, series := range w.tenantSeries("contoso") {
				if strings.HasPrefix(series, "mde_machines{") {
					v, _ := w.value(series)
					sum += v
				}
			}
			if sum != 30 {
				t.Errorf("after a restart the fleet has %v machines, want 30", sum)
			}
			for series, want := range small {
				if v, there := w.value(series); !there || v != want {
					t.Errorf("after a restart %s is %v, %v, want %v", series, v, there, want)
				}
			}
			if v, _ := w.value(`mde_watched_domain_machines{domain="evil.example",tenant="contoso"}`); v != 3 {
				t.Errorf("after a restart the domain has %v machines, want 3", v)
			}
			if v, _ := w.value(`mde_refresh_last_success_timestamp_seconds{collector="security_states",tenant="contoso"}`); math.Abs(v-read) > 1 {
				t.Errorf("the values claim to be of %v, not of %v", v, read)
			}
		})
	}
	if n := far.Count(simulation.Every); n != calls {
		t.Errorf("the restarts cost %d calls", n-calls)
	}
}

func TestOneTenantsTroubleIsItsOwn(t *testing.T) {
	well := newFarEnd(t, simulation.Options{Machines: 10})
	var sections []string
	for _, fault := range []simulation.Fault{{Hang: true}, {Status: 429, RetryAfter: "3600"}, {Status: 500}, {Reset: true}, {Body: "{"}} {
		far := newFarEnd(t, simulation.Options{Machines: 10})
		far.Fail(simulation.Every, fault)
		sections = append(sections, far.section(fmt.Sprintf("ill-%d", len(sections)), quickDomains))
	}
	w := newWorld(t, nil, append(sections, well.section("well", quickDomains))...)
	eventually(t, "the tenant that is well is refreshed", func() bool {
		states, _ := w.value(`mde_refresh_success{collector="security_states",tenant="well"}`)
		domains, _ := w.value(`mde_refresh_success{collector="watched_domains",tenant="well"}`)
		return states == 1 && domains == 1
	})
}

func TestTheStoragesSuccessIsExposedWhereStorageWasAskedFor(t *testing.T) {
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
		{"a directory that cannot be used", none.Success, 0, true},
	} {
		w := &world{t: t}
		w.Exporter = New(Options{Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler), StorageSuccess: test.success})
		if v, ok := w.value(series); v != test.want || ok != test.exposed {
			t.Errorf("%s: %v, %v; want %v, %v", test.name, v, ok, test.want, test.exposed)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTheSeriesOfATenantAreItsOwn(t *testing.T) {
	far := newFarEnd(t, simulation.Options{Machines: 20, MultiTenant: true})
	w := newWorld(t, nil, far.section("contoso", quickDomains), far.section("fabrikam", quickDomains), far.section("contoso-2", quickDomains))
	w.awaitReady()
	series := func(names ...string) map[string]bool {
		t.Helper()
		g, ok := w.TenantGatherer(names)
		if !ok {
			t.Fatalf("%q are not served", names)
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
		eventually(t, fmt.Sprintf("%q have all their series and no other", names), func() bool {
			want := map[string]bool{}
			for _, name := range names {
				for _, s := range w.tenantSeries(name) {
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
	for _, names := range [][]string{{"nobody"}, {"contoso", "nobody"}, {""}, {"Contoso"}} {
		if _, ok := w.TenantGatherer(names); ok {
			t.Errorf("%q are served", names)
		}
	}
	w.reload(far.section("fabrikam", quickDomains))
	if _, ok := w.TenantGatherer([]string{"contoso"}); ok {
		t.Error("a tenant that a reload removed is served")
	}
}
