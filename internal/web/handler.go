package web

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"path"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// An endpoint is a pattern of http.ServeMux, without the method, and what
// answers there.
type endpoint struct {
	methods []string
	path    string
	handler http.HandlerFunc
}

// reading is for everything that changes nothing. ServeMux lets GET answer HEAD too.
var reading = []string{http.MethodGet}

// NewHandler returns the handler of all endpoints. It fails where the
// telemetry path cannot be served.
func NewHandler(o Options) (http.Handler, error) {
	if o.TelemetryPath == "" {
		o.TelemetryPath = DefaultTelemetryPath
	}
	if err := CheckTelemetryPath(o.TelemetryPath); err != nil {
		return nil, fmt.Errorf("telemetry path: %w", err)
	}
	dashboards, err := newBundle(o.Dashboards, ".json", "application/json")
	if err != nil {
		return nil, err
	}
	alerts, err := newBundle(o.Alerts, ".yaml", plainText)
	if err != nil {
		return nil, err
	}
	page, err := newPage(o, dashboards.names, alerts.names)
	if err != nil {
		return nil, err
	}

	endpoints := []endpoint{
		{reading, "/{$}", page.serve},
		{reading, o.TelemetryPath, metrics(o)},
		{reading, "/-/healthy", healthy},
		{reading, "/-/ready", ready(o)},
		{[]string{http.MethodPost, http.MethodPut}, "/-/reload", sameSiteOnly(reload(o.Reload))},
		{reading, "/config", sameSiteOnly(config(o.Config))},
		{reading, "/dashboards/{name}", dashboards.serve},
		{reading, "/alerts/{name}", alerts.serve},
	}
	if o.Pprof {
		endpoints = append(endpoints,
			endpoint{reading, "/debug/pprof/", pprof.Index},
			endpoint{reading, "/debug/pprof/cmdline", pprof.Cmdline}, // No secrets: no flag takes one.
			endpoint{reading, "/debug/pprof/profile", pprof.Profile},
			endpoint{[]string{http.MethodGet, http.MethodPost}, "/debug/pprof/symbol", pprof.Symbol},
			endpoint{reading, "/debug/pprof/trace", pprof.Trace},
		)
	}

	mux := http.NewServeMux()
	for _, e := range endpoints {
		for _, method := range e.methods {
			mux.Handle(method+" "+e.path, e.handler)
		}
	}
	return secured(mux, page.style), nil
}

// CheckTelemetryPath tells why the metrics cannot be served at a path: it is
// not an absolute, clean path of plain characters, or it is taken.
func CheckTelemetryPath(p string) error {
	if !strings.HasPrefix(p, "/") {
		return fmt.Errorf("%q does not begin with a slash", p)
	}
	if strings.ContainsFunc(p, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"#%?<>[\]^{|}`+"`", r)
	}) {
		return fmt.Errorf("%q has characters that a URL's path cannot hold as they are", p)
	}
	if clean := path.Clean(p); clean != p {
		return fmt.Errorf("%q is not in its shortest form, which is %q", p, clean)
	}
	if p == "/" {
		return fmt.Errorf("%q is taken by the front page", p)
	}
	for _, own := range []string{"/-", "/config", "/dashboards", "/alerts", "/debug/pprof"} {
		if p == own || strings.HasPrefix(p, own+"/") {
			return fmt.Errorf("%q is taken by the exporter's own %s", p, own)
		}
	}
	return nil
}

// metrics answers a scrape with whatever could be gathered: one bad series
// must not cost all others.
func metrics(o Options) http.HandlerFunc {
	return promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{
		ErrorLog:          slog.NewLogLogger(o.logger().Handler(), slog.LevelError),
		ErrorHandling:     promhttp.ContinueOnError,
		Registry:          o.Registry,
		EnableOpenMetrics: true,
	}).ServeHTTP
}
