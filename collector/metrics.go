package collector

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mde-exporter/mde_exporter/client"
)

// Metrics are the exporter's own measurements: refreshes, API calls, quota. All
// of them carry the tenant label.
type Metrics struct {
	refreshes       *prometheus.CounterVec
	failures        *prometheus.CounterVec
	success         *prometheus.GaugeVec
	lastSuccess     *prometheus.GaugeVec
	refreshDuration *prometheus.GaugeVec
	interval        *prometheus.GaugeVec
	requests        *prometheus.CounterVec
	requestDuration *prometheus.HistogramVec
	quotaWait       *prometheus.CounterVec
	dropped         *prometheus.CounterVec

	mu      sync.Mutex
	handles map[string]int            // by tenant
	clients map[string]*TenantMetrics // by tenant: the newest that has a client
}

// NewMetrics registers the measurements, and panics where one is registered
// already, which is a mistake of the program and not of its input.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"tenant"}, labels...))
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, append([]string{"tenant"}, labels...))
	}
	m := &Metrics{
		refreshes: counter("mde_refreshes_total",
			"Refreshes finished, well or badly.", "collector"),
		failures: counter("mde_refresh_failures_total",
			"Refreshes that failed, by reason; auth and forbidden need a person to act.", "collector", "reason"),
		success: gauge("mde_refresh_success",
			"1 when the last refresh succeeded, 0 when it failed and older values are still served. Absent until a refresh has finished.", "collector"),
		lastSuccess: gauge("mde_refresh_last_success_timestamp_seconds",
			"When the last successful refresh ended: the age of the values.", "collector"),
		refreshDuration: gauge("mde_refresh_duration_seconds",
			"How long the last refresh took.", "collector"),
		interval: gauge("mde_refresh_interval_seconds",
			"The configured refresh interval.", "collector"),
		requests: counter("mde_api_requests_total",
			"HTTP calls by API and status code, or error where there was no answer. Retries are calls of their own.", "api", "code"),
		requestDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            "mde_api_request_duration_seconds",
			Help:                            "How long HTTP calls took, reading the answer included.",
			Buckets:                         []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"tenant", "api"}),
		quotaWait: counter("mde_api_quota_wait_seconds_total",
			"Time that calls waited for the call quota or as the service's Retry-After asked.", "api"),
		dropped: counter("mde_label_values_dropped_total",
			"Distinct label values beyond the limit, counted under the value other.", "label"),
		handles: make(map[string]int),
		clients: make(map[string]*TenantMetrics),
	}
	reg.MustRegister(m.refreshes, m.failures, m.success, m.lastSuccess, m.refreshDuration, m.interval,
		m.requests, m.requestDuration, m.quotaWait, m.dropped, clientState{m})
	return m
}

// Tenant returns a handle on the measurements of one tenant. Handles of the
// same name write to the same series, so that a reload may make a new one
// before it deletes the old.
func (m *Metrics) Tenant(name string) *TenantMetrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.handles[name]++
	return &TenantMetrics{metrics: m, tenant: name, called: make(map[client.API]bool)}
}

// TenantMetrics are the measurements of one tenant. It implements
// client.Observer. Its methods may be called concurrently.
type TenantMetrics struct {
	metrics *Metrics
	tenant  string

	mu      sync.RWMutex
	deleted bool
	client  ClientState
	called  map[client.API]bool
}

var _ client.Observer = (*TenantMetrics)(nil)

// Delete removes every series of the tenant, unless another handle of the same
// name is in use. What is measured through this handle afterwards is ignored.
func (t *TenantMetrics) Delete() {
	m := t.metrics
	m.mu.Lock()
	defer m.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.deleted {
		return
	}
	t.deleted = true
	if m.clients[t.tenant] == t {
		delete(m.clients, t.tenant)
	}
	if m.handles[t.tenant]--; m.handles[t.tenant] > 0 {
		return
	}
	delete(m.handles, t.tenant)
	m.deletePartialMatch(prometheus.Labels{"tenant": t.tenant})
}

// DeleteCollector removes the series about the refreshes of a collector that is
// no more, as when a reload switches it off.
func (t *TenantMetrics) DeleteCollector(name string) {
	t.metrics.deletePartialMatch(prometheus.Labels{"tenant": t.tenant, "collector": name})
}

func (m *Metrics) deletePartialMatch(labels prometheus.Labels) {
	for _, vec := range []interface{ DeletePartialMatch(prometheus.Labels) int }{
		m.refreshes, m.failures, m.success, m.lastSuccess, m.refreshDuration, m.interval,
		m.requests, m.requestDuration, m.quotaWait, m.dropped,
	} {
		vec.DeletePartialMatch(labels)
	}
}

// Call counts one HTTP call.
func (t *TenantMetrics) Call(api client.API, code string, duration time.Duration) {
	t.measure(func(m *Metrics) {
		m.requests.WithLabelValues(t.tenant, string(api), code).Inc()
		m.requestDuration.WithLabelValues(t.tenant, string(api)).Observe(duration.Seconds())
		if api != client.Token {
			m.quotaWait.WithLabelValues(t.tenant, string(api)).Add(0)
		}
	})
	t.markCalled(api)
}

// QuotaWait adds to the time calls of the API waited.
func (t *TenantMetrics) QuotaWait(api client.API, wait time.Duration) {
	t.measure(func(m *Metrics) {
		m.quotaWait.WithLabelValues(t.tenant, string(api)).Add(max(0, wait.Seconds()))
	})
}

// measure runs f unless the tenant is deleted: a call that ends late brings no
// series back.
func (t *TenantMetrics) measure(f func(*Metrics)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.deleted {
		f(t.metrics)
	}
}

// valueDropped counts one more distinct value of the label under other; n may
// be 0, so that the series exists before anything happens.
func (t *TenantMetrics) valueDropped(label string, n int) {
	t.measure(func(m *Metrics) { m.dropped.WithLabelValues(t.tenant, label).Add(float64(n)) })
}

// refreshStarts makes the series of a collector that exist before its first
// refresh has finished.
func (t *TenantMetrics) refreshStarts(collector string, interval time.Duration, lastSuccess time.Time) {
	t.measure(func(m *Metrics) {
		m.interval.WithLabelValues(t.tenant, collector).Set(interval.Seconds())
		m.refreshes.WithLabelValues(t.tenant, collector)
		for _, reason := range client.Reasons() {
			m.failures.WithLabelValues(t.tenant, collector, string(reason))
		}
		if !lastSuccess.IsZero() {
			m.lastSuccess.WithLabelValues(t.tenant, collector).Set(unixSeconds(lastSuccess))
		}
	})
}

// refreshed notes one finished refresh and when it succeeded, if it did.
func (t *TenantMetrics) refreshed(collector string, success time.Time, duration time.Duration, err error) {
	t.measure(func(m *Metrics) {
		m.refreshes.WithLabelValues(t.tenant, collector).Inc()
		m.refreshDuration.WithLabelValues(t.tenant, collector).Set(duration.Seconds())
		if err != nil {
			m.success.WithLabelValues(t.tenant, collector).Set(0)
			m.failures.WithLabelValues(t.tenant, collector, string(client.ReasonOf(err))).Inc()
			return
		}
		m.success.WithLabelValues(t.tenant, collector).Set(1)
		m.lastSuccess.WithLabelValues(t.tenant, collector).Set(unixSeconds(success))
	})
}

func unixSeconds(t time.Time) float64 {
	return float64(t.UnixMilli()) / 1000
}
