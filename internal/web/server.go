// Package web serves the exporter's HTTP endpoints: metrics, status page, the
// configuration in force, bundled dashboards and rules, and the endpoints for
// orchestrators and operators. It receives what it shows as plain data.
package web

import (
	"context"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultTelemetryPath is the default path of the metrics.
const DefaultTelemetryPath = "/metrics"

// Options configure the handler. Every func must be safe for concurrent use.
type Options struct {
	// Gatherer returns the metrics. Required.
	Gatherer prometheus.Gatherer
	// TenantGatherer returns a gatherer of only these tenants' metrics. It
	// returns false if a name is unknown. Required.
	TenantGatherer func(names []string) (prometheus.Gatherer, bool)
	// Registry receives promhttp_metric_handler_errors_total, which counts errors
	// of gathering and encoding. Nil means errors are only logged.
	Registry prometheus.Registerer
	// TelemetryPath is the path of the metrics, such as DefaultTelemetryPath.
	// Required.
	TelemetryPath string
	// Ready reports whether every collector has values or has failed once.
	// Required.
	Ready func() bool
	// Status returns the content of the status page. Required.
	Status func() Status
	// Config returns the configuration in force as YAML, secrets masked. Required.
	Config func() []byte
	// Reload loads the configuration again; its error becomes the response body.
	// An error that wraps the context's means that the reload is still running.
	// Nil disables the lifecycle endpoints: they respond with 403.
	Reload func(context.Context) error
	// Pprof serves the runtime's profiles under /debug/pprof/.
	Pprof bool
	// Dashboards and Alerts contain the bundled files at their root. Nil means
	// none.
	Dashboards, Alerts fs.FS
	// Logger logs errors while serving. Required.
	Logger *slog.Logger
}

// Limits of the server. A scraper sends a few hundred bytes and waits for about a
// minute at most. Slower clients are disconnected.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	// writeTimeout is long enough for a large scrape over a slow connection.
	// Profiles extend it by their own duration.
	writeTimeout = 2 * time.Minute
	// idleTimeout is longer than common scrape intervals, so that scrapers reuse
	// their connections.
	idleTimeout    = 5 * time.Minute
	maxHeaderBytes = 64 << 10
)

// NewServer returns a server of NewHandler's endpoints with limits on request
// size and duration. The caller sets address and TLS.
func NewServer(o Options) (*http.Server, error) {
	handler, err := NewHandler(o)
	if err != nil {
		return nil, err
	}
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}, nil
}
