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

// testOptions returns valid options that serve one metric.
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

// request sends one request to the handler and returns the response.
func request(t *testing.T, h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response := httptest.NewRecorder()
	h.ServeHTTP(response, r)
	return response
}

func TestEndpoints(t *testing.T) {
	var (
		notReady  = func(o *Options) { o.Ready = func() bool { return false } }
		lifecycle = func(o *Options) { o.Reload = func(context.Context) error { return nil } }
		invalid   = func(o *Options) {
			o.Reload = func(context.Context) error {
				return errors.New("mde.yml:3: unknown key \"tenant\"\nmde.yml:9: no name")
			}
		}
		profiled  = func(o *Options) { o.Pprof = true }
		otherPath = func(o *Options) { o.TelemetryPath = "/telemetry/mde" }
		noBundle  = func(o *Options) { o.Dashboards, o.Alerts = nil, nil }
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
		{name: "the status page", path: "/", code: 200, body: "<!DOCTYPE html>"},
		{name: "the status page by HEAD", method: "HEAD", path: "/", code: 200},
		{name: "the metrics", path: "/metrics", code: 200, body: "mde_machines 4213"},
		{name: "the metrics of one tenant", path: "/metrics?tenant=contoso", code: 200, body: "mde_of_tenant{tenant=\"contoso\"} 1"},
		{name: "the metrics of several tenants", path: "/metrics?tenant=contoso&tenant=a%20%26%20b", code: 200, body: "mde_of_tenant{tenant=\"a & b\"} 1"},
		{name: "the metrics of an unknown tenant", path: "/metrics?tenant=unknown", code: 404, body: "No tenant"},
		{name: "the metrics of a known and an unknown tenant", path: "/metrics?tenant=contoso&tenant=unknown", code: 404},
		{name: "the metrics of a tenant without a name", path: "/metrics?tenant=", code: 404},
		{name: "a malformed query never returns all tenants", path: "/metrics?tenant=contoso;x", code: 400},
		{name: "a query with an invalid escape never returns all tenants", path: "/metrics?tenant=%zz", code: 400},
		{name: "the metrics at another path", options: otherPath, path: "/telemetry/mde", code: 200, body: "mde_machines 4213"},
		{name: "no metrics at the default path if another is configured", options: otherPath, path: "/metrics", code: 404},
		{name: "no POST to the metrics", method: "POST", path: "/metrics", code: 405, allow: "GET, HEAD"},
		{name: "health", path: "/-/healthy", code: 200, body: "healthy"},
		{name: "health does not wait for readiness", options: notReady, path: "/-/healthy", code: 200},
		{name: "readiness", path: "/-/ready", code: 200, body: "is ready"},
		{name: "unreadiness", options: notReady, path: "/-/ready", code: 503, body: "waiting"},
		{name: "a reload with disabled lifecycle endpoints", method: "POST", path: "/-/reload", code: 403, body: "--web.enable-lifecycle"},
		{name: "a reload by POST", options: lifecycle, method: "POST", path: "/-/reload", code: 200},
		{name: "a reload by PUT", options: lifecycle, method: "PUT", path: "/-/reload", code: 200},
		{name: "no reload by GET", options: lifecycle, path: "/-/reload", code: 405, allow: "POST, PUT"},
		{name: "a failed reload returns every mistake", options: invalid, method: "POST", path: "/-/reload", code: 500, body: "mde.yml:3: unknown key \"tenant\"\nmde.yml:9: no name"},
		{name: "the configuration", path: "/config", code: 200, body: "- name: contoso"},
		{name: "no PUT to the configuration", method: "PUT", path: "/config", code: 405, allow: "GET, HEAD"},
		{name: "a dashboard", path: "/dashboards/fleet.json", code: 200, body: `{"title":"Fleet"}`},
		{name: "an unknown dashboard", path: "/dashboards/other.json", code: 404},
		{name: "no files other than dashboards", path: "/dashboards/embed.go", code: 404},
		{name: "no directory listing", path: "/dashboards/", code: 404},
		{name: "no path traversal", path: "/dashboards/..%2Ffleet.json", code: 404},
		{name: "rules", path: "/alerts/mde.yaml", code: 200, body: "groups: []"},
		{name: "no file in a subdirectory of the rules", path: "/alerts/deep%2Fer.yaml", code: 404},
		{name: "no dashboard without bundled files", options: noBundle, path: "/dashboards/fleet.json", code: 404},
		{name: "no profile without its flag", path: "/debug/pprof/", code: 404},
		{name: "no named profile without its flag", path: "/debug/pprof/heap", code: 404},
		{name: "profiles with their flag", options: profiled, path: "/debug/pprof/", code: 200, body: "goroutine"},
		{name: "a named profile with its flag", options: profiled, path: "/debug/pprof/goroutine?debug=1", code: 200, body: "goroutine profile"},
		{name: "a binary profile", options: profiled, path: "/debug/pprof/heap?gc=1", code: 200, body: "\x1f\x8b"},
		{name: "an unknown profile", options: profiled, path: "/debug/pprof/nothing", code: 404, body: "Unknown profile"},
		{name: "a CPU profile", options: profiled, path: "/debug/pprof/profile?seconds=1", code: 200, body: "\x1f\x8b"},
		{name: "a trace", options: profiled, path: "/debug/pprof/trace", code: 200, body: "go 1."},
		{name: "the command line with the profiles' flag", options: profiled, path: "/debug/pprof/cmdline", code: 200},
		{name: "an unknown path", path: "/metrics/", code: 404},
		{name: "the page of an unknown tenant", path: "/?tenant=nobody", code: 404},
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
			response := request(t, newTestHandler(t, o), method, test.path)
			body := response.Body.String()
			if response.Code != test.code {
				t.Errorf("status %d, want %d: %s", response.Code, test.code, body)
			}
			if !strings.Contains(body, test.body) {
				t.Errorf("the body lacks %q:\n%s", test.body, body)
			}
			if allow := response.Header().Get("Allow"); allow != test.allow {
				t.Errorf("Allow: %q, want %q", allow, test.allow)
			}
			for _, header := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy"} {
				if response.Header().Get(header) == "" {
					t.Errorf("the response has no %s", header)
				}
			}
		})
	}
}

func TestInvalidTelemetryPaths(t *testing.T) {
	tests := []struct{ name, path, mistake string }{
		{"relative", "metrics", "does not begin with a slash"},
		{"the status page", "/", "used by the status page"},
		{"an endpoint", "/config", "used by the exporter's /config"},
		{"an endpoint of the lifecycle", "/-/ready", "used by the exporter's /-"},
		{"below the dashboards", "/dashboards/metrics", "used by the exporter's /dashboards"},
		{"the rules", "/alerts", "used by the exporter's /alerts"},
		{"the profiles", "/debug/pprof/heap", "used by the exporter's /debug/pprof"},
		{"a trailing slash", "/metrics/", `not a clean path, use "/metrics"`},
		{"dots", "/a/../metrics", `not a clean path, use "/metrics"`},
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
			response := request(t, newTestHandler(t, o), http.MethodGet, path)
			if response.Code != http.StatusOK {
				t.Errorf("status %d", response.Code)
			}
		})
	}
}

func TestReadyNamesWaitingCollectors(t *testing.T) {
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

func TestCrossSiteReloadIsRejected(t *testing.T) {
	o := testOptions()
	reloads := 0
	o.Reload = func(context.Context) error { reloads++; return nil }
	response := request(t, newTestHandler(t, o), http.MethodPost, "http://exporter.example:10058/-/reload",
		"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")
	if response.Code != http.StatusForbidden || reloads != 0 {
		t.Errorf("status %d after %d reloads, want 403 and no reload", response.Code, reloads)
	}
}

func TestHangingReloadReturns503(t *testing.T) {
	o := testOptions()
	o.Reload = func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		response := request(t, newTestHandler(t, o), http.MethodPost, "/-/reload")
		if response.Code != http.StatusServiceUnavailable || !strings.Contains(response.Body.String(), "still running") {
			t.Errorf("status %d: %s", response.Code, response.Body)
		}
		if took := time.Since(start); took > writeTimeout/2 {
			t.Errorf("the response took %v", took)
		}
	})
}

func TestCrossSiteRequests(t *testing.T) {
	const host = "http://exporter.example:10058"
	tests := []struct {
		name     string
		header   []string
		rejected bool
	}{
		{"without headers", nil, false},
		{"typed into the address bar", []string{"Sec-Fetch-Site", "none"}, false},
		{"from the exporter's own page", []string{"Sec-Fetch-Site", "same-origin"}, false},
		{"from the exporter's own page, with an origin", []string{"Sec-Fetch-Site", "same-origin", "Origin", host}, false},
		{"from the exporter's own page in an old browser", []string{"Origin", host}, false},
		{"with the host in capitals", []string{"Origin", "http://Exporter.Example:10058"}, false},
		{"from another site", []string{"Sec-Fetch-Site", "cross-site"}, true},
		{"from another host of the same site", []string{"Sec-Fetch-Site", "same-site"}, true},
		{"with an unknown Sec-Fetch-Site", []string{"Sec-Fetch-Site", "elsewhere"}, true},
		{"from another origin in an old browser", []string{"Origin", "https://evil.example"}, true},
		{"from another port", []string{"Origin", "http://exporter.example:80"}, true},
		{"from an opaque origin", []string{"Origin", "null"}, true},
		{"from an invalid origin", []string{"Origin", "http://[::1"}, true},
		{"with contradicting headers", []string{"Sec-Fetch-Site", "same-origin", "Origin", "https://evil.example"}, true},
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
				response := request(t, h, endpoint.method, host+endpoint.path, test.header...)
				body := response.Body.String()
				if rejected := response.Code == http.StatusForbidden; rejected != test.rejected || strings.Contains(body, endpoint.body) == test.rejected {
					t.Errorf("%s %s: status %d: %s", endpoint.method, endpoint.path, response.Code, body)
				}
			}
			if test.rejected && reloads > 0 {
				t.Errorf("reloaded %d times", reloads)
			}
			for _, open := range []string{"/", "/metrics", "/-/healthy", "/-/ready", "/dashboards/fleet.json"} {
				if response := request(t, h, http.MethodGet, host+open, test.header...); response.Code != http.StatusOK {
					t.Errorf("%s: status %d", open, response.Code)
				}
			}
		})
	}
}

func TestMetricsSupportOpenMetricsAndGzip(t *testing.T) {
	h := newTestHandler(t, testOptions())

	response := request(t, h, http.MethodGet, "/metrics", "Accept", "application/openmetrics-text; version=1.0.0")
	if got := response.Header().Get("Content-Type"); !strings.HasPrefix(got, "application/openmetrics-text") {
		t.Errorf("Content-Type: %s", got)
	}
	if !strings.HasSuffix(response.Body.String(), "# EOF\n") {
		t.Errorf("the exposition does not end with # EOF:\n%s", response.Body)
	}

	response = request(t, h, http.MethodGet, "/metrics", "Accept-Encoding", "gzip")
	if got := response.Header().Get("Content-Encoding"); got != "gzip" {
		t.Fatalf("Content-Encoding: %s", got)
	}
	reader, err := gzip.NewReader(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	decompressed, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(decompressed), "mde_machines 4213") {
		t.Errorf("decompressed:\n%s", decompressed)
	}
}

func TestMetricsAreServedDespiteGatherError(t *testing.T) {
	o := testOptions()
	o.Gatherer = prometheus.Gatherers{o.Gatherer, prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		return nil, errors.New("an invalid series")
	})}
	var log strings.Builder
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	h := newTestHandler(t, o)

	response := request(t, h, http.MethodGet, "/metrics")
	body := response.Body.String()
	if response.Code != http.StatusOK || !strings.Contains(body, "mde_machines 4213") {
		t.Errorf("status %d:\n%s", response.Code, body)
	}
	if !strings.Contains(log.String(), "an invalid series") {
		t.Errorf("logged %q", log.String())
	}
	// A scrape counts its error after gathering, so the next scrape exposes it.
	body = request(t, h, http.MethodGet, "/metrics").Body.String()
	if want := `promhttp_metric_handler_errors_total{cause="gathering"} 1`; !strings.Contains(body, want) {
		t.Errorf("lacks %s:\n%s", want, body)
	}
}

func TestBundledFilesHaveContentType(t *testing.T) {
	h := newTestHandler(t, testOptions())
	for path, want := range map[string]string{
		"/dashboards/fleet.json": "application/json",
		"/alerts/mde.yaml":       "text/plain; charset=utf-8",
		"/config":                "text/plain; charset=utf-8",
	} {
		response := request(t, h, http.MethodGet, path)
		if got := response.Header().Get("Content-Type"); got != want {
			t.Errorf("%s: Content-Type: %s, want %s", path, got, want)
		}
	}
}

func TestNewHandlerFailsForUnreadableBundle(t *testing.T) {
	o := testOptions()
	o.Alerts = lockedFS{}
	if _, err := NewHandler(o); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v, want %v", err, fs.ErrPermission)
	}
}

// lockedFS is a file system without read permission.
type lockedFS struct{}

func (lockedFS) Open(string) (fs.File, error) { return nil, fs.ErrPermission }
