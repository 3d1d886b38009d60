package exporter

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reloads records how loading the configuration went, for a scrape and for the
// page. A scrape sees one attempt, never the half of one.
type reloads struct {
	mu       sync.Mutex
	tried    bool
	loadedAt time.Time // By the wall clock. Zero means never.
	err      string    // Of the last attempt, empty where it succeeded.
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

// Collect implements prometheus.Collector. The timestamp is absent until a
// configuration was loaded, both are absent before the first attempt.
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

// record takes the result of one attempt.
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

// last returns when the configuration in force was loaded, and why a later
// attempt failed.
func (r *reloads) last() (loadedAt time.Time, err string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.loadedAt, r.err
}
