package exporter

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reloads records the result of the last attempt to load the configuration, for
// scrapes and for the status page. A scrape sees one whole attempt. It implements
// prometheus.Collector.
type reloads struct {
	mu       sync.Mutex
	tried    bool
	loadedAt time.Time // Wall clock. Zero means never.
	err      string    // Error of the last attempt. Empty if it succeeded.
}

var (
	reloadSuccessful = prometheus.NewDesc("mde_exporter_config_last_reload_successful",
		"Whether the last attempt to load the configuration succeeded.", nil, nil)
	reloadLastSuccess = prometheus.NewDesc("mde_exporter_config_last_reload_success_timestamp_seconds",
		"When the configuration in force was loaded.", nil, nil)
)

func newReloads(registry prometheus.Registerer) *reloads {
	r := &reloads{}
	registry.MustRegister(r)
	return r
}

// Describe implements prometheus.Collector.
func (r *reloads) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- reloadSuccessful
	descriptions <- reloadLastSuccess
}

// Collect implements prometheus.Collector. The timestamp is absent until a load
// succeeds. Both series are absent before the first attempt.
func (r *reloads) Collect(metrics chan<- prometheus.Metric) {
	r.mu.Lock()
	tried, loadedAt, err := r.tried, r.loadedAt, r.err
	r.mu.Unlock()
	if !tried {
		return
	}
	successful := 1.0
	if err != "" {
		successful = 0
	}
	metrics <- prometheus.MustNewConstMetric(reloadSuccessful, prometheus.GaugeValue, successful)
	if !loadedAt.IsZero() {
		metrics <- prometheus.MustNewConstMetric(reloadLastSuccess, prometheus.GaugeValue, float64(loadedAt.UnixNano())/1e9)
	}
}

// record stores the result of one attempt.
func (r *reloads) record(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tried = true
	if err != nil {
		r.err = err.Error()
		return
	}
	r.loadedAt, r.err = time.Now().Round(0), ""
}

// last returns when the configuration in force was loaded, and the error of the
// last attempt. The error is empty if that attempt succeeded.
func (r *reloads) last() (loadedAt time.Time, err string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.loadedAt, r.err
}
