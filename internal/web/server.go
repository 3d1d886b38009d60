// Package web serves what the exporter shows: the metrics, a front page of how
// tenants, collectors and domains stand, the configuration in force, the
// bundled dashboards and rules, and the endpoints that orchestrators and
// operators call. It knows of HTTP and HTML; what it shows comes as plain data.
package web

import (
	"context"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultTelemetryPath is where Prometheus looks for metrics by default.
const DefaultTelemetryPath = "/metrics"

// Options say what is served. Every func may be called concurrently.
type Options struct {
	// Gatherer gives the metrics. Required.
	Gatherer prometheus.Gatherer
	// TenantGatherer gives the metrics of these tenants alone. It reports false
	// where one of them is unknown. Required.
	TenantGatherer func(names []string) (prometheus.Gatherer, bool)
	// Registry counts the errors of gathering and encoding, as
	// promhttp_metric_handler_errors_total. Nil means they are only logged.
	Registry prometheus.Registerer
	// TelemetryPath is where the metrics are, such as DefaultTelemetryPath. Required.
	TelemetryPath string
	// Ready reports whether every collector has something to show or has failed
	// once. Required.
	Ready func() bool
	// Status is asked for each front page. Required.
	Status func() Status
	// Config returns the configuration in force as YAML, secrets masked. Required.
	Config func() []byte
	// Reload loads the configuration again; its error is the answer's body.
	// Nil means that the lifecycle endpoints are off, which is answered with 403.
	// An error that wraps the context's means that the reload has not ended yet.
	Reload func(context.Context) error
	// Pprof serves the runtime's profiles under /debug/pprof/.
	Pprof bool
	// Dashboards and Alerts hold the bundled files, at their root. Nil means none.
	Dashboards, Alerts fs.FS
	// Logger takes what goes wrong while serving. Required.
	Logger *slog.Logger
}

// The limits of the server. A scraper sends a few hundred bytes and waits for
// at most a minute or so; who does otherwise must not hold connections.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	// writeTimeout covers a large scrape over a slow link. Profiles extend it
	// by their own duration.
	writeTimeout = 2 * time.Minute
	// idleTimeout is longer than common scrape intervals, so that a scraper
	// keeps its connection.
	idleTimeout    = 5 * time.Minute
	maxHeaderBytes = 64 << 10
)

// NewServer returns a server of NewHandler's endpoints with limits on what a
// client may send and how long it may take. Its address and TLS are the
// caller's.
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
