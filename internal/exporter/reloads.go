package exporter

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reloads notes how loading the configuration went, for a scrape and for the page.
type reloads struct {
	successful, lastSuccess prometheus.Gauge

	mu       sync.Mutex
	loadedAt time.Time
	err      string
}

func newReloads(registry prometheus.Registerer) *reloads {
	r := &reloads{
		successful: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mde_exporter_config_last_reload_successful",
			Help: "Whether the last attempt to load the configuration succeeded.",
		}),
		lastSuccess: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mde_exporter_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration in force was loaded.",
		}),
	}
	registry.MustRegister(r.successful, r.lastSuccess)
	return r
}

// note takes the result of one attempt.
func (r *reloads) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.successful.Set(0)
		r.err = err.Error()
		return
	}
	r.successful.Set(1)
	r.lastSuccess.SetToCurrentTime()
	r.loadedAt, r.err = time.Now().Round(0), "" // An age of the wall clock.
}

// last returns when the configuration in force was loaded, and why a later
// attempt failed.
func (r *reloads) last() (loadedAt time.Time, err string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.loadedAt, r.err
}
