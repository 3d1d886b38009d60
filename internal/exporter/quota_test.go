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

// A countingService is a sign-in host and a Defender API in one, reached without
// a network. It counts the calls as the service does: by the app and the tenant
// that the token was issued to, and the kind of call.
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

// worst returns the most calls of one app, tenant and kind that any span of the
// length holds, and how many calls there were in all.
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

// entry is a tenant of the configuration file.
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

// newQuotaWorld is an exporter whose tenants are all served by the service.
func newQuotaWorld(t *testing.T, service http.RoundTripper, s *storage.Storage) *world {
	t.Helper()
	w := &world{t: t, file: filepath.Join(t.TempDir(), "mde.yml")}
	w.Exporter = New(Options{
		Load:      func() (*config.Config, error) { return config.Load(w.file, config.Overrides{}) },
		Registry:  prometheus.NewRegistry(),
		Storage:   s,
		Logger:    slog.New(slog.DiscardHandler),
		transport: func(string) http.RoundTripper { return service },
	})
	return w
}

func newService() *countingService { return &countingService{calls: make(map[string][]time.Time)} }

// TestNoReloadGrantsMoreCallsThanTheQuota removes, renames, duplicates and adds
// again the entries of one app registration, 300 times in half an hour.
func TestNoReloadGrantsMoreCallsThanTheQuota(t *testing.T) {
	const perMinute, reloads = 5, 300
	variants := [][]string{
		{entry("contoso", "tid", "app", perMinute, 20)},
		{}, // Removed.
		{entry("contoso", "TID", "APP", perMinute, 20)},                                       // The same ids, in other letters.
		{entry("renamed", "tid", "app", perMinute, 20)},                                       // Renamed.
		{entry("contoso", "tid", "app", 100, 20), entry("twin", "tid", "app", perMinute, 20)}, // The smaller limit holds.
		{entry("contoso", "tid", "app", perMinute, 40)},
		{entry("other", "tid-2", "app", perMinute, 20), entry("contoso", "tid", "app", perMinute, 20)},
	}
	keeper := entry("keeper", "tid-3", "app", perMinute, 1)
	for _, kept := range []string{"without storage", "with storage"} {
		t.Run(kept, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				service := newService()
				var s *storage.Storage
				if kept == "with storage" {
					var err error
					if s, err = storage.Open(t.TempDir(), slog.New(slog.DiscardHandler)); err != nil {
						t.Fatal(err)
					}
					defer s.Close()
				}
				w := newQuotaWorld(t, service, s)
				defer w.Close()
				var few int
				for i := range reloads {
					w.reload(append([]string{keeper}, variants[i%len(variants)]...)...)
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
					t.Errorf("%d calls in %d minutes: the quota is not used", all, reloads/10)
				}
				if now := runtime.NumGoroutine(); now > few+20 {
					t.Errorf("%d goroutines became %d", few, now)
				}
			})
		})
	}
}

// TestTheFirstStartAfterAnUpgradeKnowsWhatWasSpent begins with files of version
// 0.1, which counted by the names of tenants: 40 calls of each, in the last 40
// seconds.
func TestTheFirstStartAfterAnUpgradeKnowsWhatWasSpent(t *testing.T) {
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
			w := newQuotaWorld(t, service, s)
			w.reload(entry("contoso", "tid", "app", 80, 20), entry("twin", "tid", "app", 80, 20))
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if spent, _ := w.value(`mde_api_quota_calls{api="domain_machines",tenant="contoso",window="hour"}`); spent != 80 {
				t.Errorf("%v calls count, want the 40 of each file", spent)
			}
			w.Close()
			_ = s.Close()
		}
		if calls := service.callsTo("/api/domains"); calls != 0 {
			t.Errorf("%d calls left although the quota was spent", calls)
		}
		for _, name := range fileNames(t, dir) {
			if strings.Contains(name, ".spent") && !strings.HasPrefix(name, "tid_app") {
				t.Errorf("%s is still there", name)
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

// TestARestartKnowsWhatWasSpentUnderAnotherName stops one exporter and starts
// another, which has renamed the tenant.
func TestARestartKnowsWhatWasSpentUnderAnotherName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, dir := newService(), t.TempDir()
		for i := range 6 {
			s, err := storage.Open(dir, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			w := newQuotaWorld(t, service, s)
			w.reload(entry(fmt.Sprint("contoso-", i), "tid", "app", 5, 20))
			time.Sleep(10 * time.Second)
			w.Close()
			_ = s.Close()
		}
		if worst, _ := service.worst(time.Minute); worst > 5 {
			t.Errorf("the service counts %d calls in a minute, the limit is 5", worst)
		}
	})
}

func TestTheSmallestLimitOfThoseThatShareAQuotaIsInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newQuotaWorld(t, newService(), nil)
		defer w.Close()
		limit := func() float64 {
			time.Sleep(time.Second)
			synctest.Wait()
			v, _ := w.value(`mde_api_quota_limit_calls{api="domain_machines",tenant="a",window="minute"}`)
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
			w.reload(append([]string{entry("a", "tid", "app", 50, 1)}, step.others...)...)
			if got := limit(); got != step.want {
				t.Errorf("beside %d others the limit is %v, want %v", len(step.others), got, step.want)
			}
		}
	})
}

// TestListsThatShareAQuotaPlanWithTheirPart watches two lists that need 40 minutes
// each of the whole quota, and then one of them alone.
func TestListsThatShareAQuotaPlanWithTheirPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := newService()
		w := newQuotaWorld(t, service, nil)
		defer w.Close()
		interval := func(tenant string) time.Duration {
			v, _ := w.value(fmt.Sprintf("mde_watched_domains_interval_seconds{tenant=%q}", tenant))
			return time.Duration(v) * time.Second
		}
		a, b := entry("a", "tid", "app", 100, 400), entry("b", "tid", "app", 100, 400)
		w.reload(a, b, entry("small", "tid", "app", 100, 1))
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		for _, tenant := range []string{"a", "b"} {
			if got := interval(tenant); got < 28*time.Minute || got > 36*time.Minute {
				t.Errorf("beside another the list of %s takes %v, want about the 32 minutes that half the quota allows", tenant, got)
			}
			oldest, _ := w.value(fmt.Sprintf(`mde_refresh_last_success_timestamp_seconds{collector="watched_domains",tenant=%q}`, tenant))
			if age := time.Since(time.Unix(int64(oldest), 0)); age > 40*time.Minute {
				t.Errorf("the oldest value of %s is %v old", tenant, age)
			}
		}
		before := service.callsTo("/api/domains")
		time.Sleep(time.Hour)
		if spent := service.callsTo("/api/domains") - before; spent < 1450 {
			t.Errorf("%d calls in an hour, want nearly the whole quota of 1500", spent)
		}
		w.reload(a)
		time.Sleep(time.Hour + time.Minute)
		synctest.Wait()
		if got := interval("a"); got > 16*time.Minute+24*time.Second {
			t.Errorf("alone the list takes %v, want the 16 minutes that the quota allows", got)
		}
		if worst, _ := service.worst(time.Hour); worst > 1500 {
			t.Errorf("the service counts %d calls in an hour", worst)
		}
	})
}

// TestAFailedReloadMovesNoLimit makes a reload fail after the tenants before the
// mistake were prepared.
func TestAFailedReloadMovesNoLimit(t *testing.T) {
	far := httptest.NewTLSServer(http.NotFoundHandler())
	far.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: far.Certificate().Raw})
	synctest.Test(t, func(t *testing.T) {
		service := newService()
		w := newQuotaWorld(t, service, nil)
		defer w.Close()
		caFile := filepath.Join(t.TempDir(), "ca.pem")
		w.reload(entry("contoso", "tid", "app", 5, 30), entry("steady", "tid-3", "app", 5, 1))
		time.Sleep(time.Second)
		synctest.Wait()
		before := w.exposed()

		if err := os.WriteFile(caFile, ca, 0o600); err != nil {
			t.Fatal(err)
		}
		load := w.options.Load
		w.options.Load = func() (*config.Config, error) {
			c, err := load()
			_ = os.Remove(caFile) // As by someone who replaces it at this moment.
			return c, err
		}
		w.write(entry("contoso", "tid", "app", 100, 30), entry("twin", "tid", "app", 2, 30),
			entry("steady", "tid-3", "app", 5, 1)+"  scores: {enabled: true}\n",
			entry("broken", "tid-2", "app", 5, 1)+fmt.Sprintf("  http_config: {tls_config: {ca_file: %q}}\n", caFile))
		if err := w.Reload(); err == nil || !strings.Contains(err.Error(), "broken") {
			t.Fatalf("the reload's error is %v, want one of the tenant broken", err)
		}
		synctest.Wait()
		if diff := cmp.Diff(before, w.exposed()); diff != "" {
			t.Errorf("the failed reload changed the exposition, -before +after:\n%s", diff)
		}
		for _, name := range []string{"contoso", "steady"} {
			if n := w.tenants[name].client.Quota(client.DomainMachines).Clients; n != 1 {
				t.Errorf("after the failed reload %d clients take part in the quota of %s, want its one", n, name)
			}
		}
		time.Sleep(20 * time.Minute)
		if worst, _ := service.worst(time.Minute); worst != 5 {
			t.Errorf("after the failed reload the service counts %d calls in a minute, want the 5 of the limit in force", worst)
		}
	})
}

// TestWhatIsGoneIsForgotten reloads with another tenant of another app each time.
func TestWhatIsGoneIsForgotten(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := storage.Open(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		w := newQuotaWorld(t, newService(), s)
		defer w.Close()
		keeper := entry("keeper", "tid", "app", 100, 1)
		for i := range 300 {
			w.reload(keeper, entry(fmt.Sprint("t", i), fmt.Sprint("tid-", i), "app", 100, 1))
			time.Sleep(time.Second)
			synctest.Wait()
		}
		w.reload(keeper)
		if n := len(w.quotas.Sweep()); n < 300 {
			t.Errorf("%d quotas are left after 5 minutes, want those of all calls of the last hour", n)
		}
		time.Sleep(sweepAfter)
		synctest.Wait()
		// A tenant has a quota at the sign-in host, one at Graph and one at the API.
		if n := len(w.quotas.Sweep()); n != 3 {
			t.Errorf("%d quotas are left, want the 3 of the tenant that stays", n)
		}
	})
}

// exposed lists every series with its value, but for those that the time or the
// attempt to reload itself moves.
func (w *world) exposed() []string {
	w.t.Helper()
	families, err := w.Gatherer().Gather()
	if err != nil {
		w.t.Fatal(err)
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
