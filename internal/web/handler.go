package web

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"net/url"
	"path"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewHandler returns the handler of all endpoints. It returns an error if the
// telemetry path is invalid.
func NewHandler(o Options) (http.Handler, error) {
	if err := CheckTelemetryPath(o.TelemetryPath); err != nil {
		return nil, fmt.Errorf("telemetry path: %w", err)
	}
	mux := http.NewServeMux() // GET matches HEAD, too.
	dashboards, err := serveBundle(mux, "/dashboards/", o.Dashboards, ".json", "application/json")
	if err != nil {
		return nil, err
	}
	alerts, err := serveBundle(mux, "/alerts/", o.Alerts, ".yaml", plainText)
	if err != nil {
		return nil, err
	}
	mux.HandleFunc("GET /{$}", page(o, dashboards, alerts))
	mux.HandleFunc("GET "+o.TelemetryPath, metrics(o))
	mux.HandleFunc("GET /-/healthy", healthy)
	mux.HandleFunc("GET /-/ready", ready(o))
	for _, method := range []string{http.MethodPost, http.MethodPut} {
		mux.HandleFunc(method+" /-/reload", sameSiteOnly(reload(o.Reload)))
	}
	mux.HandleFunc("GET /config", sameSiteOnly(config(o.Config)))
	if o.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline) // Contains no secret: no flag accepts one.
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return secured(mux), nil
}

// CheckTelemetryPath returns an error if the metrics cannot be served at the
// path: it must be an absolute, clean path of plain characters that no other
// endpoint uses.
func CheckTelemetryPath(p string) error {
	if !strings.HasPrefix(p, "/") {
		return fmt.Errorf("%q does not begin with a slash", p)
	}
	if strings.ContainsFunc(p, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"#%?<>[\]^{|}`+"`", r)
	}) {
		return fmt.Errorf("%q has characters that must be escaped in a URL path", p)
	}
	if clean := path.Clean(p); clean != p {
		return fmt.Errorf("%q is not a clean path, use %q", p, clean)
	}
	if p == "/" {
		return fmt.Errorf("%q is used by the status page", p)
	}
	for _, own := range []string{"/-", "/config", "/dashboards", "/alerts", "/debug/pprof"} {
		if p == own || strings.HasPrefix(p, own+"/") {
			return fmt.Errorf("%q is used by the exporter's %s", p, own)
		}
	}
	return nil
}

// parseQuery returns the query of a request. For a malformed query it responds
// with 400 and returns false.
func parseQuery(w http.ResponseWriter, r *http.Request) (url.Values, bool) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		writeText(w, http.StatusBadRequest, "The query is malformed: encode reserved characters, such as ; as %3B.")
	}
	return query, err == nil
}

// metrics serves scrapes with everything that could be gathered: an invalid
// series must not affect others. With tenant=NAME it serves only these tenants'
// series. It rejects a malformed query, so that a typo never returns all tenants.
func metrics(o Options) http.HandlerFunc {
	handler := func(g prometheus.Gatherer) http.Handler {
		return promhttp.HandlerFor(g, promhttp.HandlerOpts{
			ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelError),
			ErrorHandling:     promhttp.ContinueOnError,
			Registry:          o.Registry,
			EnableOpenMetrics: true,
		})
	}
	all := handler(o.Gatherer)
	return func(w http.ResponseWriter, r *http.Request) {
		query, ok := parseQuery(w, r)
		if !ok {
			return
		}
		if !query.Has("tenant") {
			all.ServeHTTP(w, r)
			return
		}
		some, known := o.TenantGatherer(query["tenant"])
		if !known {
			writeText(w, http.StatusNotFound, "No tenant of that name is configured.")
			return
		}
		handler(some).ServeHTTP(w, r)
	}
}
