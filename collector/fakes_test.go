package collector

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
)

// testEnv is an exposition and what a collector needs.
type testEnv struct {
	registry   *prometheus.Registry
	metrics    *Metrics
	tenant     *TenantMetrics
	exposition *Exposition
	log        *syncBuffer
	logger     *slog.Logger
}

func newTestEnv() *testEnv {
	w := &testEnv{registry: prometheus.NewRegistry(), exposition: &Exposition{}, log: &syncBuffer{}}
	w.metrics = NewMetrics(w.registry)
	w.tenant = w.metrics.Tenant("contoso")
	w.logger = slog.New(slog.NewTextHandler(w.log, nil))
	return w
}

// nameOf returns the name of a collector.
func nameOf(c Collector) string {
	if c, ok := c.(interface{ Name() string }); ok {
		return c.Name()
	}
	if strings.Contains(fmt.Sprintf("%T", c), "omains") {
		return "watched_domains"
	}
	return "security_states"
}

func (w *testEnv) refresher(c Collector, interval time.Duration) *Refresher {
	return NewRefresher(RefresherOptions{
		Env:       Env{Tenant: "contoso", Name: nameOf(c), Logger: w.logger},
		Schedule:  Schedule{RefreshInterval: model.Duration(interval), Continuous: nameOf(c) == "watched_domains"},
		Collector: c, Exposition: w.exposition,
	})
}

// scrape returns the text of a scrape.
func (w *testEnv) scrape(t testing.TB) string {
	t.Helper()
	return text(t, must(Combine(w.registry, w.exposition).Gather()))
}

func text(t testing.TB, families []*dto.MetricFamily) string {
	t.Helper()
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// value returns the value of a series, or "" if it is absent.
func value(exposition, series string) string {
	for line := range strings.Lines(exposition) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

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

// memoryStore is a Store of JSON texts.
type memoryStore struct {
	mu     sync.Mutex
	values map[string]string
	fail   error
}

func (s *memoryStore) Load(key string, v any) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, ok := s.values[key]
	if !ok || s.fail != nil {
		return false, s.fail
	}
	return true, json.Unmarshal([]byte(text), v)
}

func (s *memoryStore) Save(key string, v any) error {
	text, err := json.Marshal(v)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || s.fail != nil {
		return s.fail
	}
	if s.values == nil {
		s.values = make(map[string]string)
	}
	s.values[key] = string(text)
	return nil
}

func (s *memoryStore) Delete(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.values, key)
	return s.fail
}

func (s *memoryStore) Keys(prefix string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for key := range s.values {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	return keys, s.fail
}

// untilKilled returns the store of a program that is killed after a while: later changes
// are not stored.
func (s *memoryStore) untilKilled(after time.Duration) Store {
	return &killedStore{s, time.Now().Add(after)}
}

type killedStore struct {
	*memoryStore
	at time.Time
}

func (s *killedStore) Save(key string, v any) error {
	if !time.Now().Before(s.at) {
		return nil
	}
	return s.memoryStore.Save(key, v)
}

func (s *killedStore) Delete(key string) error {
	if !time.Now().Before(s.at) {
		return nil
	}
	return s.memoryStore.Delete(key)
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// runFor runs a refresher for a while in fake time.
func runFor(t *testing.T, r *Refresher, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	time.Sleep(d)
	cancel()
	<-done
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// fixedState is a ClientState that never changes.
type fixedState struct{}

func (fixedState) Quota(api client.API) client.QuotaUse {
	if api == client.Alerts {
		return client.QuotaUse{Limits: client.Limits{CallsPerMinute: 100, CallsPerHour: 1500}, Known: true}
	}
	return client.QuotaUse{MinuteCalls: 2, HourCalls: 30, Limits: client.Limits{CallsPerMinute: 100, CallsPerHour: 1500}, Known: true}
}

func (fixedState) CredentialExpiry() (time.Time, bool) { return time.Unix(1_900_000_000, 0), true }
