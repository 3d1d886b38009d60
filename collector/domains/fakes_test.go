package domains

import (
	"context"
	"iter"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/attention"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

// Options are the settings that tests change.
type Options struct {
	Config
	collector.Env
	Interval, MaxAge time.Duration
	Fleet            *attention.Index // Nil means the one of Env.
	WholeList        bool
}

func newDomains(w *collectortest.World, c Client, domains []string, change ...func(*Options)) *Collector {
	o := Options{Env: w.Env("watched_domains"), Interval: time.Hour, MaxAge: 3 * time.Hour}
	o.Domains = domains
	o.Shared = &collector.Shared{}
	for _, f := range change {
		f(&o)
	}
	return o.collector(c)
}

func (o Options) collector(c Client) *Collector {
	o.RefreshInterval, o.Config.MaxAge, o.Once = model.Duration(o.Interval), model.Duration(o.MaxAge), o.WholeList
	if o.Fleet != nil {
		o.Shared = &collector.Shared{}
		collector.Share(o.Shared, func() (*attention.Index, func()) { return o.Fleet, nil })
	}
	return New(o.Config, o.Env, c)
}

// lockedMaxAge is the age at which values are withdrawn.
func (w *Collector) lockedMaxAge() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.maxAge()
}

func newFleet(maxAge time.Duration) *attention.Index {
	f := &attention.Index{}
	f.Expect(maxAge)
	return f
}

// refusedDomains is a Client that gets no token.
type refusedDomains struct {
	mu    sync.Mutex
	calls int
}

func (f *refusedDomains) DomainMachines(context.Context, string) iter.Seq2[*client.Machine, error] {
	f.mu.Lock()
	f.calls++
	f.mu.Unlock()
	return collectortest.RowsOf[client.Machine](&client.Error{API: client.Token, Status: 401, Reason: client.ReasonAuth, Code: "invalid_client"})
}

func (f *refusedDomains) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *refusedDomains) HoldsSecret(string) bool { return false }

func (f *refusedDomains) DomainStatistics(context.Context, string) (client.DomainStatistics, error) {
	return client.DomainStatistics{}, nil
}

func (f *refusedDomains) Quota(client.API) client.QuotaUse {
	return client.QuotaUse{Limits: client.Limits{CallsPerMinute: 100, CallsPerHour: 1500}, Known: true}
}

// hangingDomain is a far end that never answers for one domain.
type hangingDomain struct {
	*farEnd
	domain string
}

func (h *hangingDomain) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.Path, h.domain) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return h.farEnd.RoundTrip(r)
}

// lint reports what promtool would find.
func lint(t *testing.T, g prometheus.Gatherer) {
	t.Helper()
	problems, err := testutil.GatherAndLint(g)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("lint: %s: %s", p.Metric, p.Text)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
