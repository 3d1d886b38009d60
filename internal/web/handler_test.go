package web

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/mde-exporter/mde_exporter/collector"
)

// testOptions serve a small world in which everything is well.
func testOptions() Options {
	registry := prometheus.NewRegistry()
	machines := prometheus.NewGauge(prometheus.GaugeOpts{Name: "mde_machines", Help: "Machines."})
	machines.Set(4213)
	registry.MustRegister(machines)
	return Options{
		Gatherer: registry,
		TenantGatherer: func(names []string) (prometheus.Gatherer, bool) {
			return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
				name, kind, label, value := "mde_of_tenant", dto.MetricType_GAUGE, "tenant", 1.0
				f := &dto.MetricFamily{Name: &name, Type: &kind}
				for _, tenant := range names {
					f.Metric = append(f.Metric, &dto.Metric{Label: []*dto.LabelPair{{Name: &label, Value: &tenant}}, Gauge: &dto.Gauge{Value: &value}})
				}
				return []*dto.MetricFamily{f}, nil
			}), !slices.Contains(names, "unknown") && !slices.Contains(names, "")
		},
		Registry:      registry,
		TelemetryPath: DefaultTelemetryPath,
		Ready:         func() bool { return true },
		Status:        func() Status { return Status{} },
		Config:        func() []byte { return []byte("tenants:\n- name: contoso\n") },
		Logger:        slog.New(slog.DiscardHandler),
		Dashboards:    fstest.MapFS{"fleet.json": {Data: []byte(`{"title":"Fleet"}`)}, "embed.go": {Data: []byte("package x")}},
		Alerts:        fstest.MapFS{"mde.yaml": {Data: []byte("groups: []\n")}, "deep/er.yaml": {Data: []byte("secret: 1\n")}},
	}
}

func newTestHandler(t *testing.T, o Options) http.Handler {
	t.Helper()
	h, err := NewHandler(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// request sends one request to the handler and returns the answer.
func request(t *testing.T, h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, r)
	return answer
}

func TestEndpoints(t *testing.T) {
	var (
		notReady  = func(o *Options) { o.Ready = func() bool { return false } }
		lifecycle = func(o *Options) { o.Reload = func(context.Context) error { return nil } }
		mistaken  = func(o *Options) {
			o.Reload = func(context.Context) error {
				return errors.New("mde.yml:3: unknown key \"tenant\"\nmde.yml:9: no name")
			}
		}
		profiled  = func(o *Options) { o.Pprof = true }
		elsewhere = func(o *Options) { o.TelemetryPath = "/telemetry/mde" }
		bare      = func(o *Options) { o.Dashboards, o.Alerts = nil, nil }
	)
	tests := []struct {
		name    string
		options func(*Options)
		method  string
		path    string
		code    int
		body    string // a part of it
		allow   string
	}{
		{name: "the front page", path: "/", code: 200, body: "<!DOCTYPE html>"},
		{name: "the front page to HEAD", method: "HEAD", path: "/", code: 200},
		{name: "the metrics", path: "/metrics", code: 200, body: "mde_machines 4213"},
		{name: "the metrics of one tenant", path: "/metrics?tenant=contoso", code: 200, body: "mde_of_tenant{tenant=\"contoso\"} 1"},
		{name: "the metrics of several tenants", path: "/metrics?tenant=contoso&tenant=a%20%26%20b", code: 200, body: "mde_of_tenant{tenant=\"a & b\"} 1"},
		{name: "the metrics of an unknown tenant", path: "/metrics?tenant=unknown", code: 404, body: "No tenant"},
		{name: "the metrics of a known and an unknown tenant", path: "/metrics?tenant=contoso&tenant=unknown", code: 404},
		{name: "the metrics of a tenant without a name", path: "/metrics?tenant=", code: 404},
		{name: "a query that cannot be read never widens to all tenants", path: "/metrics?tenant=contoso;x", code: 400},
		{name: "a query with a broken escape never widens to all tenants", path: "/metrics?tenant=%zz", code: 400},
		{name: "the metrics at another path", options: elsewhere, path: "/telemetry/mde", code: 200, body: "mde_machines 4213"},
		{name: "no metrics at the usual path when they are at another", options: elsewhere, path: "/metrics", code: 404},
		{name: "the metrics take no POST", method: "POST", path: "/metrics", code: 405, allow: "GET, HEAD"},
		{name: "health", path: "/-/healthy", code: 200, body: "healthy"},
		{name: "health does not wait for readiness", options: notReady, path: "/-/healthy", code: 200},
		{name: "readiness", path: "/-/ready", code: 200, body: "is ready"},
		{name: "unreadiness", options: notReady, path: "/-/ready", code: 503, body: "waiting"},
		{name: "a reload where the lifecycle endpoints are off", method: "POST", path: "/-/reload", code: 403, body: "--web.enable-lifecycle"},
		{name: "a reload by POST", options: lifecycle, method: "POST", path: "/-/reload", code: 200},
		{name: "a reload by PUT", options: lifecycle, method: "PUT", path: "/-/reload", code: 200},
		{name: "no reload by GET", options: lifecycle, path: "/-/reload", code: 405, allow: "POST, PUT"},
		{name: "a reload of a mistaken file names every mistake", options: mistaken, method: "POST", path: "/-/reload", code: 500, body: "mde.yml:3: unknown key \"tenant\"\nmde.yml:9: no name"},
		{name: "the configuration", path: "/config", code: 200, body: "- name: contoso"},
		{name: "the configuration takes no PUT", method: "PUT", path: "/config", code: 405, allow: "GET, HEAD"},
		{name: "a dashboard", path: "/dashboards/fleet.json", code: 200, body: `{"title":"Fleet"}`},
		{name: "no dashboard of that name", path: "/dashboards/other.json", code: 404},
		{name: "no other file beside the dashboards", path: "/dashboards/embed.go", code: 404},
		{name: "no list of dashboards", path: "/dashboards/", code: 404},
		{name: "no way up from the dashboards", path: "/dashboards/..%2Ffleet.json", code: 404},
		{name: "rules", path: "/alerts/mde.yaml", code: 200, body: "groups: []"},
		{name: "no file below the rules", path: "/alerts/deep%2Fer.yaml", code: 404},
		{name: "no dashboard where none is bundled", options: bare, path: "/dashboards/fleet.json", code: 404},
		{name: "no profile without its flag", path: "/debug/pprof/", code: 404},
		{name: "no named profile without its flag", path: "/debug/pprof/heap", code: 404},
		{name: "profiles with their flag", options: profiled, path: "/debug/pprof/", code: 200, body: "goroutine"},
		{name: "a named profile with its flag", options: profiled, path: "/debug/pprof/goroutine?debug=1", code: 200, body: "goroutine profile"},
		{name: "a profile for the tools", options: profiled, path: "/debug/pprof/heap?gc=1", code: 200, body: "\x1f\x8b"},
		{name: "no profile that the runtime does not have", options: profiled, path: "/debug/pprof/nothing", code: 404, body: "Unknown profile"},
		{name: "a recording of the processor", options: profiled, path: "/debug/pprof/profile?seconds=1", code: 200, body: "\x1f\x8b"},
		{name: "a trace", options: profiled, path: "/debug/pprof/trace", code: 200, body: "go 1."},
		{name: "the command line with the profiles' flag", options: profiled, path: "/debug/pprof/cmdline", code: 200},
		{name: "nothing at an unknown path", path: "/metrics/", code: 404},
		{name: "nothing at a tenant that is not there", path: "/?tenant=nobody", code: 404},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := testOptions()
			if test.options != nil {
				test.options(&o)
			}
			method := test.method
			if method == "" {
				method = http.MethodGet
			}
			answer := request(t, newTestHandler(t, o), method, test.path)
			body := answer.Body.String()
			if answer.Code != test.code {
				t.Errorf("answered %d, want %d: %s", answer.Code, test.code, body)
			}
			if !strings.Contains(body, test.body) {
				t.Errorf("the body lacks %q:\n%s", test.body, body)
			}
			if allow := answer.Header().Get("Allow"); allow != test.allow {
				t.Errorf("Allow: %q, want %q", allow, test.allow)
			}
			for _, header := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy"} {
				if answer.Header().Get(header) == "" {
					t.Errorf("the answer has no %s", header)
				}
			}
		})
	}
}

func TestTelemetryPathsThatCannotBeServed(t *testing.T) {
	tests := []struct{ name, path, mistake string }{
		{"relative", "metrics", "does not begin with a slash"},
		{"the front page", "/", "taken by the front page"},
		{"an endpoint", "/config", "taken by the exporter's own /config"},
		{"an endpoint of the lifecycle", "/-/ready", "taken by the exporter's own /-"},
		{"below the dashboards", "/dashboards/metrics", "taken by the exporter's own /dashboards"},
		{"the rules", "/alerts", "taken by the exporter's own /alerts"},
		{"the profiles", "/debug/pprof/heap", "taken by the exporter's own /debug/pprof"},
		{"a trailing slash", "/metrics/", `not in its shortest form, which is "/metrics"`},
		{"dots", "/a/../metrics", `not in its shortest form, which is "/metrics"`},
		{"a wildcard of the mux", "/{name}", "characters"},
		{"a query", "/metrics?a=b", "characters"},
		{"a space", "/my metrics", "characters"},
		{"a control character", "/metrics\x00", "characters"},
		{"beyond ASCII", "/métriques", "characters"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := testOptions()
			o.TelemetryPath = test.path
			_, err := NewHandler(o)
			if err == nil || !strings.Contains(err.Error(), test.mistake) {
				t.Errorf("got %v, want an error with %q", err, test.mistake)
			}
		})
	}
	for _, path := range []string{"/metrics", "/configuration", "/alerts-metrics", "/-metrics", "/debug/metrics", "/a/b.c_d~e"} {
		t.Run("served: "+path, func(t *testing.T) {
			o := testOptions()
			o.TelemetryPath = path
			answer := request(t, newTestHandler(t, o), http.MethodGet, path)
			if answer.Code != http.StatusOK {
				t.Errorf("answered %d", answer.Code)
			}
		})
	}
}

func TestUnreadinessNamesWhatItWaitsFor(t *testing.T) {
	finished := Collector{Name: "security_states", Enabled: true, Status: collector.Status{Ready: true, Finished: time.Now()}}
	waiting := Collector{Name: "watched_domains", Enabled: true}
	off := Collector{Name: "other", Enabled: false}
	o := testOptions()
	o.Ready = func() bool { return false }
	o.Status = func() (s Status) {
		for i := range 30 {
			s.Tenants = append(s.Tenants, Tenant{
				Name:       fmt.Sprintf("tenant-%02d", i),
				Collectors: []Collector{finished, waiting, off},
			})
		}
		return s
	}
	body := request(t, newTestHandler(t, o), http.MethodGet, "/-/ready").Body.String()
	for _, want := range []string{"\ntenant-00/watched_domains\n", "\ntenant-19/watched_domains\n", "\nand 10 more\n"} {
		if !strings.Contains(body, want) {
			t.Errorf("lacks %q:\n%s", want, body)
		}
	}
	for _, other := range []string{"security_states", "other", "tenant-20"} {
		if strings.Contains(body, other) {
			t.Errorf("names %q:\n%s", other, body)
		}
	}
}

func TestAPageOfAnotherSiteCannotReload(t *testing.T) {
	o := testOptions()
	reloads := 0
	o.Reload = func(context.Context) error { reloads++; return nil }
	answer := request(t, newTestHandler(t, o), http.MethodPost, "http://exporter.example:10058/-/reload",
		"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")
	if answer.Code != http.StatusForbidden || reloads != 0 {
		t.Errorf("answered %d after %d reloads, want 403 after none", answer.Code, reloads)
	}
}

func TestARequestForAReloadThatHangsIsAnswered(t *testing.T) {
	o := testOptions()
	o.Reload = func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		answer := request(t, newTestHandler(t, o), http.MethodPost, "/-/reload")
		if answer.Code != http.StatusServiceUnavailable || !strings.Contains(answer.Body.String(), "still under way") {
			t.Errorf("answered %d: %s", answer.Code, answer.Body)
		}
		if took := time.Since(start); took > writeTimeout/2 {
			t.Errorf("the answer came after %v", took)
		}
	})
}

func TestRequestsFromOtherSites(t *testing.T) {
	const host = "http://exporter.example:10058"
	tests := []struct {
		name    string
		header  []string
		refused bool
	}{
		{"without a mark", nil, false},
		{"typed into the address bar", []string{"Sec-Fetch-Site", "none"}, false},
		{"from the exporter's own page", []string{"Sec-Fetch-Site", "same-origin"}, false},
		{"from the exporter's own page, with an origin", []string{"Sec-Fetch-Site", "same-origin", "Origin", host}, false},
		{"from the exporter's own page in an old browser", []string{"Origin", host}, false},
		{"with the host in capitals", []string{"Origin", "http://Exporter.Example:10058"}, false},
		{"from another site", []string{"Sec-Fetch-Site", "cross-site"}, true},
		{"from another host of the same site", []string{"Sec-Fetch-Site", "same-site"}, true},
		{"with a mark of the future", []string{"Sec-Fetch-Site", "elsewhere"}, true},
		{"from another origin in an old browser", []string{"Origin", "https://evil.example"}, true},
		{"from another port", []string{"Origin", "http://exporter.example:80"}, true},
		{"from an opaque origin", []string{"Origin", "null"}, true},
		{"from an origin that is none", []string{"Origin", "http://[::1"}, true},
		{"with marks that disagree", []string{"Sec-Fetch-Site", "same-origin", "Origin", "https://evil.example"}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := testOptions()
			reloads := 0
			o.Reload = func(context.Context) error { reloads++; return nil }
			h := newTestHandler(t, o)
			for _, endpoint := range []struct{ method, path, body string }{
				{http.MethodGet, "/config", "contoso"},
				{http.MethodPost, "/-/reload", "loaded"},
				{http.MethodPut, "/-/reload", "loaded"},
			} {
				answer := request(t, h, endpoint.method, host+endpoint.path, test.header...)
				body := answer.Body.String()
				if refused := answer.Code == http.StatusForbidden; refused != test.refused || strings.Contains(body, endpoint.body) == test.refused {
					t.Errorf("%s %s: answered %d: %s", endpoint.method, endpoint.path, answer.Code, body)
				}
			}
			if test.refused && reloads > 0 {
				t.Errorf("reloaded %d times", reloads)
			}
			for _, open := range []string{"/", "/metrics", "/-/healthy", "/-/ready", "/dashboards/fleet.json"} {
				if answer := request(t, h, http.MethodGet, host+open, test.header...); answer.Code != http.StatusOK {
					t.Errorf("%s: answered %d", open, answer.Code)
				}
			}
		})
	}
}

func TestMetricsSpeakOpenMetricsAndGzip(t *testing.T) {
	h := newTestHandler(t, testOptions())

	answer := request(t, h, http.MethodGet, "/metrics", "Accept", "application/openmetrics-text; version=1.0.0")
	if got := answer.Header().Get("Content-Type"); !strings.HasPrefix(got, "application/openmetrics-text") {
		t.Errorf("Content-Type: %s", got)
	}
	if !strings.HasSuffix(answer.Body.String(), "# EOF\n") {
		t.Errorf("the exposition does not end as OpenMetrics does:\n%s", answer.Body)
	}

	answer = request(t, h, http.MethodGet, "/metrics", "Accept-Encoding", "gzip")
	if got := answer.Header().Get("Content-Encoding"); got != "gzip" {
		t.Fatalf("Content-Encoding: %s", got)
	}
	unpacker, err := gzip.NewReader(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(unpacker)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(unpacked), "mde_machines 4213") {
		t.Errorf("unpacked:\n%s", unpacked)
	}
}

func TestOneBadSeriesCostsNoOther(t *testing.T) {
	o := testOptions()
	o.Gatherer = prometheus.Gatherers{o.Gatherer, prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		return nil, errors.New("a series that cannot be")
	})}
	var log strings.Builder
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	h := newTestHandler(t, o)

	answer := request(t, h, http.MethodGet, "/metrics")
	body := answer.Body.String()
	if answer.Code != http.StatusOK || !strings.Contains(body, "mde_machines 4213") {
		t.Errorf("answered %d:\n%s", answer.Code, body)
	}
	if !strings.Contains(log.String(), "a series that cannot be") {
		t.Errorf("logged %q", log.String())
	}
	// Each scrape counts its own error after gathering: the next one shows it.
	body = request(t, h, http.MethodGet, "/metrics").Body.String()
	if want := `promhttp_metric_handler_errors_total{cause="gathering"} 1`; !strings.Contains(body, want) {
		t.Errorf("lacks %s:\n%s", want, body)
	}
}

func TestBundledFilesHaveTheirContentType(t *testing.T) {
	h := newTestHandler(t, testOptions())
	for path, want := range map[string]string{
		"/dashboards/fleet.json": "application/json",
		"/alerts/mde.yaml":       "text/plain; charset=utf-8",
		"/config":                "text/plain; charset=utf-8",
	} {
		answer := request(t, h, http.MethodGet, path)
		if got := answer.Header().Get("Content-Type"); got != want {
			t.Errorf("%s: Content-Type: %s, want %s", path, got, want)
		}
	}
}

func TestFilesThatCannotBeListedAreTold(t *testing.T) {
	o := testOptions()
	o.Alerts = lockedFS{}
	if _, err := NewHandler(o); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v, want %v", err, fs.ErrPermission)
	}
}

// lockedFS lets nobody in.
type lockedFS struct{}

func (lockedFS) Open(string) (fs.File, error) { return nil, fs.ErrPermission }
