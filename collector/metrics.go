package collector

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mde-exporter/mde_exporter/client"
)

// Metrics are the exporter's own metrics about API calls, quota and label values. All have
// the label tenant.
type Metrics struct {
	requests        *prometheus.CounterVec
	requestDuration *prometheus.HistogramVec
	quotaWait       *prometheus.CounterVec
	dropped         *prometheus.CounterVec

	mu      sync.Mutex
	clients map[string]*TenantMetrics // By tenant: those that have a client.
}

// NewMetrics registers the metrics. It panics if one is already registered.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"tenant"}, labels...))
	}
	m := &Metrics{
		requests: counter("mde_api_requests_total",
			"HTTP calls by API and status code, or error if there was no response. Each retry is a call.", "api", "code"),
		requestDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            "mde_api_request_duration_seconds",
			Help:                            "How long HTTP calls took, including reading the response.",
			Buckets:                         []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"tenant", "api"}),
		quotaWait: counter("mde_api_quota_wait_seconds_total",
			"Time that calls waited for the call quota or because of Retry-After.", "api"),
		dropped: counter("mde_label_values_dropped_total",
			"Distinct label values beyond the limit, counted under the value other.", "label"),
		clients: make(map[string]*TenantMetrics),
	}
	reg.MustRegister(m.requests, m.requestDuration, m.quotaWait, m.dropped, clientState{m})
	return m
}

// Tenant returns the metrics of one tenant, which start empty. The caller must have deleted
// earlier ones of the same name.
func (m *Metrics) Tenant(name string) *TenantMetrics {
	return &TenantMetrics{metrics: m, tenant: name}
}

// TenantMetrics are the metrics of one tenant. It implements
// client.Observer. Its methods may be called concurrently.
type TenantMetrics struct {
	metrics *Metrics
	tenant  string

	mu      sync.RWMutex
	deleted bool
	client  ClientState
	called  sync.Map // By client.API: those that were called.
}

var _ client.Observer = (*TenantMetrics)(nil)

// Delete removes every series of the tenant. Later measurements are ignored.
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
	delete(m.clients, t.tenant)
	for _, vec := range []interface{ DeletePartialMatch(prometheus.Labels) int }{
		m.requests, m.requestDuration, m.quotaWait, m.dropped,
	} {
		vec.DeletePartialMatch(prometheus.Labels{"tenant": t.tenant})
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
	t.called.Store(api, true)
}

// QuotaWait adds to the time that calls of the API waited.
func (t *TenantMetrics) QuotaWait(api client.API, wait time.Duration) {
	t.measure(func(m *Metrics) {
		m.quotaWait.WithLabelValues(t.tenant, string(api)).Add(max(0, wait.Seconds()))
	})
}

// measure runs f unless the tenant is deleted, so that a call that ends later does not
// recreate its series.
func (t *TenantMetrics) measure(f func(*Metrics)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.deleted {
		f(t.metrics)
	}
}

// ValueDropped adds n to the number of distinct values of the label that are counted under
// other. n may be 0, to create the series.
func (t *TenantMetrics) ValueDropped(label string, n int) {
	t.measure(func(m *Metrics) { m.dropped.WithLabelValues(t.tenant, label).Add(float64(n)) })
}
