package collector

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mde-exporter/mde_exporter/client"
)

var (
	quotaCallsDesc = prometheus.NewDesc("mde_api_quota_calls",
		"Calls spent inside the last minute or hour.", []string{"tenant", "api", "window"}, nil)
	quotaLimitDesc = prometheus.NewDesc("mde_api_quota_limit_calls",
		"Calls this exporter may spend in a minute or an hour.", []string{"tenant", "api", "window"}, nil)
	credentialExpiryDesc = prometheus.NewDesc("mde_credential_expiry_timestamp_seconds",
		"When the client certificate expires, or the client secret by client_secret_expires. Absent if unknown.", []string{"tenant"}, nil)
)

// ClientState is what a scrape reads from a tenant's client; *client.Client
// implements it. Its methods must neither call an API nor read a file.
type ClientState interface {
	Quota(api client.API) client.QuotaUse
	CredentialExpiry() (time.Time, bool)
}

// SetClient names the client whose quota and credential a scrape reads.
func (t *TenantMetrics) SetClient(c ClientState) {
	m := t.metrics
	m.mu.Lock()
	defer m.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.deleted {
		return
	}
	t.client = c
	m.clients[t.tenant] = t
}

// clientState is a prometheus.Collector that reads the state of all clients at each
// scrape.
type clientState struct{ metrics *Metrics }

func (c clientState) Describe(descs chan<- *prometheus.Desc) {
	descs <- quotaCallsDesc
	descs <- quotaLimitDesc
	descs <- credentialExpiryDesc
}

func (c clientState) Collect(metrics chan<- prometheus.Metric) {
	c.metrics.mu.Lock()
	tenants := slices.Collect(maps.Values(c.metrics.clients))
	c.metrics.mu.Unlock()
	for _, t := range tenants {
		t.collectClientState(metrics)
	}
}

// collectClientState collects the quota of each API that was called by this process or,
// according to the ledger, before a restart.
func (t *TenantMetrics) collectClientState(metrics chan<- prometheus.Metric) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.deleted {
		return
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		m, err := prometheus.NewConstMetric(desc, prometheus.GaugeValue, value, append([]string{t.tenant}, labels...)...)
		if err != nil {
			m = prometheus.NewInvalidMetric(desc, err)
		}
		metrics <- m
	}
	for _, api := range client.PacedAPIs() {
		use := t.client.Quota(api)
		if _, called := t.called.Load(api); !called && use.HourCalls == 0 {
			continue
		}
		gauge(quotaCallsDesc, float64(use.MinuteCalls), string(api), "minute")
		gauge(quotaCallsDesc, float64(use.HourCalls), string(api), "hour")
		gauge(quotaLimitDesc, float64(use.Limits.CallsPerMinute), string(api), "minute")
		gauge(quotaLimitDesc, float64(use.Limits.CallsPerHour), string(api), "hour")
	}
	if expiry, ok := t.client.CredentialExpiry(); ok {
		gauge(credentialExpiryDesc, UnixSeconds(expiry))
	}
}
