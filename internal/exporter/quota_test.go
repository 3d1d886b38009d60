package exporter

import (
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/config"
	"github.com/mde-exporter/mde_exporter/internal/storage"
)

// A countingService is a sign-in host and a Defender API, reached without a
// network. Like the API, it counts calls by app, tenant of the token, and kind of
// call.
type countingService struct {
	mu    sync.Mutex
	calls map[string][]time.Time
}

func (s *countingService) RoundTrip(r *http.Request) (*http.Response, error) {
	body, status := `{"value":[]}`, http.StatusOK
	if strings.HasSuffix(r.URL.Path, "/oauth2/v2.0/token") {
		if err := r.ParseForm(); err != nil {
			return nil, err
		}
		tenantID := strings.Split(r.URL.Path, "/")[1]
		body = fmt.Sprintf(`{"access_token":"%s/%s","token_type":"Bearer","expires_in":3600}`, strings.ToLower(tenantID), strings.ToLower(r.PostForm.Get("client_id")))
	} else {
		kind := r.URL.Path
		if strings.HasPrefix(kind, "/api/domains/") {
			kind = "/api/domains"
		}
		s.mu.Lock()
		counted := r.Header.Get("Authorization") + " " + kind
		s.calls[counted] = append(s.calls[counted], time.Now())
		s.mu.Unlock()
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r,
	}, nil
}

// worst returns the most calls of one app, tenant and kind within any span, and
// the total number of calls.
func (s *countingService) worst(span time.Duration) (worst, all int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, calls := range s.calls {
		all += len(calls)
		first := 0
		for i, at := range calls {
			for at.Sub(calls[first]) >= span {
				first++
			}
			worst = max(worst, i-first+1)
		}
	}
	return worst, all
}

// callsTo counts the calls of one kind.
func (s *countingService) callsTo(kind string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for counted, calls := range s.calls {
		if strings.HasSuffix(counted, " "+kind) {
			n += len(calls)
		}
	}
	return n
}

// entry returns a tenant of the configuration file.
func entry(name, tenantID, clientID string, perMinute, domains int) string {
	list := make([]string, domains)
	for i := range list {
		list[i] = fmt.Sprintf("d%d.%s.example", i, strings.ToLower(name))
	}
	return fmt.Sprintf(`
- name: %s
  azuread: {oauth: {tenant_id: %s, client_id: %s, client_secret: secret}}
  security_states: {source: machines}
  watched_domains: {domains: [%s], refresh_interval: 15m}
  quota: {calls_per_minute: %d, calls_per_hour: 1500}
`, name, tenantID, clientID, strings.Join(list, ", "), perMinute)
}

// newQuotaExporter returns an exporter whose tenants all use the service.
func newQuotaExporter(t *testing.T, service http.RoundTripper, s *storage.Storage) *testExporter {
	t.Helper()
	e := &testExporter{t: t, file: filepath.Join(t.TempDir(), "mde.yml")}
	e.Exporter = New(Options{
		Load:      func() (*config.Config, error) { return config.Load(e.file, config.Overrides{}) },
		Registry:  prometheus.NewRegistry(),
		Storage:   s,
		Logger:    slog.New(slog.DiscardHandler),
		transport: func(string) http.RoundTripper { return service },
	})
	return e
}

func newService() *countingService { return &countingService{calls: make(map[string][]time.Time)} }

// TestReloadsNeverExceedQuota removes, renames, duplicates and adds the entries
// of one app registration again, 300 times in half an hour.
func TestReloadsNeverExceedQuota(t *testing.T) {
	const perMinute, reloads = 5, 300
	variants := [][]string{
		{entry("contoso", "tid", "app", perMinute, 20)},
		{}, // Removed.
		{entry("contoso", "TID", "APP", perMinute, 20)},                                       // The same ids in upper case.
		{entry("renamed", "tid", "app", perMinute, 20)},                                       // Renamed.
		{entry("contoso", "tid", "app", 100, 20), entry("twin", "tid", "app", perMinute, 20)}, // The smaller limit applies.
		{entry("contoso", "tid", "app", perMinute, 40)},
		{entry("other", "tid-2", "app", perMinute, 20), entry("contoso", "tid", "app", perMinute, 20)},
	}
	unchanged := entry("unchanged", "tid-3", "app", perMinute, 1)
	for _, storageMode := range []string{"without storage", "with storage"} {
		t.Run(storageMode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				service := newService()
				var s *storage.Storage
				if storageMode == "with storage" {
					var err error
					if s, err = storage.Open(t.TempDir(), slog.New(slog.DiscardHandler)); err != nil {
						t.Fatal(err)
					}
					defer s.Close()
				}
				e := newQuotaExporter(t, service, s)
				defer e.Close()
				var few int
				for i := range reloads {
					e.reload(append([]string{unchanged}, variants[i%len(variants)]...)...)
					time.Sleep(6 * time.Second)
					synctest.Wait()
					if i == 10*len(variants) {
						few = runtime.NumGoroutine()
					}
				}
				worst, all := service.worst(time.Minute)
				if worst > perMinute {
					t.Errorf("the service counts %d calls in a minute, the limit is %d", worst, perMinute)
				}
				if all < perMinute*reloads/10 {
					t.Errorf("%d calls in %d minutes: quota left unused", all, reloads/10)
				}
				if now := runtime.NumGoroutine(); now > few+20 {
					t.Errorf("%d goroutines became %d", few, now)
				}
			})
		})
	}
}

// TestUpgradeFromVersion01KeepsSpentCalls starts with files of version 0.1, which
// counted calls by tenant name: 40 calls of each tenant in the last 40 seconds.
func TestUpgradeFromVersion01KeepsSpentCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, dir := newService(), t.TempDir()
		if err := os.CopyFS(dir, os.DirFS("testdata/spent-1")); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			s, err := storage.Open(dir, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			e := newQuotaExporter(t, service, s)
			e.reload(entry("contoso", "tid", "app", 80, 20), entry("twin", "tid", "app", 80, 20))
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if spent, _ := e.value(`mde_api_quota_calls{api="domain_machines",tenant="contoso",window="hour"}`); spent != 80 {
				t.Errorf("%v calls counted, want the 40 of each file", spent)
			}
			e.Close()
			_ = s.Close()
		}
		if calls := service.callsTo("/api/domains"); calls != 0 {
			t.Errorf("%d calls made although the quota was spent", calls)
		}
		for _, name := range fileNames(t, dir) {
			if strings.Contains(name, ".spent") && !strings.HasPrefix(name, "tid_app") {
				t.Errorf("%s still exists", name)
			}
		}
	})
}

func fileNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestRestartKeepsSpentCallsOfRenamedTenant restarts the exporter with another
// name for the tenant.
func TestRestartKeepsSpentCallsOfRenamedTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, dir := newService(), t.TempDir()
		for i := range 6 {
			s, err := storage.Open(dir, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			e := newQuotaExporter(t, service, s)
			e.reload(entry(fmt.Sprint("contoso-", i), "tid", "app", 5, 20))
			time.Sleep(10 * time.Second)
			e.Close()
			_ = s.Close()
		}
		if worst, _ := service.worst(time.Minute); worst > 5 {
			t.Errorf("the service counts %d calls in a minute, the limit is 5", worst)
		}
	})
}

func TestSmallestLimitAppliesToSharedQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newQuotaExporter(t, newService(), nil)
		defer e.Close()
		limit := func() float64 {
			time.Sleep(time.Second)
			synctest.Wait()
			v, _ := e.value(`mde_api_quota_limit_calls{api="domain_machines",tenant="a",window="minute"}`)
			return v
		}
		for _, step := range []struct {
			others []string
			want   float64
		}{
			{nil, 50},
			{[]string{entry("b", "tid", "app", 20, 1), entry("c", "tid", "another-app", 3, 1)}, 20},
			{[]string{entry("b", "tid", "app", 70, 1)}, 50},
			{nil, 50},
		} {
			e.reload(append([]string{entry("a", "tid", "app", 50, 1)}, step.others...)...)
			if got := limit(); got != step.want {
				t.Errorf("with %d other tenants the limit is %v, want %v", len(step.others), got, step.want)
			}
		}
	})
}

// TestWatchListsShareQuotaEvenly watches two lists that need half an hour each
// with half of the quota, and then one of them alone.
func TestWatchListsShareQuotaEvenly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := newService()
		e := newQuotaExporter(t, service, nil)
		defer e.Close()
		interval := func(tenant string) time.Duration {
			v, _ := e.value(fmt.Sprintf("mde_watched_domains_interval_seconds{tenant=%q}", tenant))
			return time.Duration(v) * time.Second
		}
		a, b := entry("a", "tid", "app", 100, 400), entry("b", "tid", "app", 100, 400)
		e.reload(a, b, entry("small", "tid", "app", 100, 1))
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		for _, tenant := range []string{"a", "b"} {
			if got := interval(tenant); got < 28*time.Minute || got > 36*time.Minute {
				t.Errorf("with another list the interval of %s is %v, want about the 32 minutes that half the quota allows", tenant, got)
			}
			oldest, _ := e.value(fmt.Sprintf(`mde_refresh_last_success_timestamp_seconds{collector="watched_domains",tenant=%q}`, tenant))
			if age := time.Since(time.Unix(int64(oldest), 0)); age > 40*time.Minute {
				t.Errorf("the oldest value of %s is %v old", tenant, age)
			}
		}
		before := service.callsTo("/api/domains")
		time.Sleep(time.Hour)
		if spent := service.callsTo("/api/domains") - before; spent < 1450 {
			t.Errorf("%d calls in an hour, want nearly the whole quota of 1500", spent)
		}
		e.reload(a)
		time.Sleep(time.Hour + time.Minute)
		synctest.Wait()
		if got := interval("a"); got > 16*time.Minute+24*time.Second {
			t.Errorf("alone the interval is %v, want the 16 minutes that the quota allows", got)
		}
		if worst, _ := service.worst(time.Hour); worst > 1500 {
			t.Errorf("the service counts %d calls in an hour", worst)
		}
	})
}

// TestFailedReloadKeepsLimits fails a reload after the tenants before the mistake
// were prepared.
func TestFailedReloadKeepsLimits(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	synctest.Test(t, func(t *testing.T) {
		service := newService()
		e := newQuotaExporter(t, service, nil)
		defer e.Close()
		caFile := filepath.Join(t.TempDir(), "ca.pem")
		e.reload(entry("contoso", "tid", "app", 5, 30), entry("steady", "tid-3", "app", 5, 1))
		time.Sleep(time.Second)
		synctest.Wait()
		before := e.exposed()

		if err := os.WriteFile(caFile, ca, 0o600); err != nil {
			t.Fatal(err)
		}
		load := e.options.Load
		e.options.Load = func() (*config.Config, error) {
			c, err := load()
			_ = os.Remove(caFile) // The file may be replaced between validation and use.
			return c, err
		}
		e.write(entry("contoso", "tid", "app", 100, 30), entry("twin", "tid", "app", 2, 30),
			entry("steady", "tid-3", "app", 5, 1)+"  scores: {enabled: true}\n",
			entry("broken", "tid-2", "app", 5, 1)+fmt.Sprintf("  http_config: {tls_config: {ca_file: %q}}\n", caFile))
		if err := e.Reload(); err == nil || !strings.Contains(err.Error(), "broken") {
			t.Fatalf("the reload's error is %v, want it to name the tenant broken", err)
		}
		synctest.Wait()
		if diff := cmp.Diff(before, e.exposed()); diff != "" {
			t.Errorf("the failed reload changed the exposition, -before +after:\n%s", diff)
		}
		for _, name := range []string{"contoso", "steady"} {
			if n := e.tenants[name].client.Quota(client.DomainMachines).Clients; n != 1 {
				t.Errorf("after the failed reload %d clients share the quota of %s, want 1", n, name)
			}
		}
		time.Sleep(20 * time.Minute)
		if worst, _ := service.worst(time.Minute); worst != 5 {
			t.Errorf("after the failed reload the service counts %d calls in a minute, want the 5 of the limit in force", worst)
		}
	})
}

// TestQuotasOfRemovedTenantsExpire replaces one tenant by one of another app at
// each reload.
func TestQuotasOfRemovedTenantsExpire(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := storage.Open(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		e := newQuotaExporter(t, newService(), s)
		defer e.Close()
		unchanged := entry("unchanged", "tid", "app", 100, 1)
		for i := range 300 {
			e.reload(unchanged, entry(fmt.Sprint("t", i), fmt.Sprint("tid-", i), "app", 100, 1))
			time.Sleep(time.Second)
			synctest.Wait()
		}
		e.reload(unchanged)
		if n := len(e.quotas.Sweep()); n < 300 {
			t.Errorf("%d quotas after 5 minutes, want those of all calls of the last hour", n)
		}
		time.Sleep(sweepAfter)
		synctest.Wait()
		// A tenant has one quota each at the sign-in host, Graph and the API.
		if n := len(e.quotas.Sweep()); n != 3 {
			t.Errorf("%d quotas, want the 3 of the unchanged tenant", n)
		}
	})
}

// exposed returns every series with its value. It omits metrics that a reload
// attempt itself changes.
func (e *testExporter) exposed() []string {
	e.t.Helper()
	families, err := e.Gatherer().Gather()
	if err != nil {
		e.t.Fatal(err)
	}
	var lines []string
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "mde_exporter_config_") {
			continue
		}
		for _, m := range f.GetMetric() {
			lines = append(lines, fmt.Sprint(seriesName(f, m), m.GetGauge().GetValue(), m.GetCounter().GetValue(), m.GetHistogram().GetSampleCount()))
		}
	}
	return lines
}
