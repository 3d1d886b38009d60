package domains

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
)

// farEnd is the service behind a real client.Client, without a network: it
// counts the calls as the service does and refuses those beyond its limits.
type farEnd struct {
	latency func() time.Duration
	answer  func(domain, what string) (status int, body string) // Nil answers 200 and no machines.

	mu      sync.Mutex
	calls   map[string][]time.Time // By API.
	asked   map[string][]time.Time // By domain.
	refused int
	tokens  int
}

func newFarEnd() *farEnd {
	return &farEnd{
		latency: func() time.Duration { return 0 },
		calls:   make(map[string][]time.Time),
		asked:   make(map[string][]time.Time),
	}
}

// RoundTrip answers like the sign-in host and the Defender API.
func (f *farEnd) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil {
		trace.GotConn(httptrace.GotConnInfo{})
		trace.WroteRequest(httptrace.WroteRequestInfo{})
	}
	status, body := f.serve(r)
	if pause := f.latency(); pause > 0 {
		select {
		case <-time.After(pause):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if status == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: int64(len(body)),
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewBufferString(body)),
	}, nil
}

func (f *farEnd) serve(r *http.Request) (int, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Method == http.MethodPost {
		f.tokens++
		return 200, `{"access_token":"of-no-worth","token_type":"Bearer","expires_in":3600}`
	}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	domain, what := parts[2], parts[3]
	now := time.Now()
	if within(f.calls[what], now, time.Minute) >= 100 || within(f.calls[what], now, time.Hour) >= 1500 {
		f.refused++
		return 429, ""
	}
	f.calls[what] = append(f.calls[what], now)
	if what == "machines" {
		f.asked[domain] = append(f.asked[domain], now)
	}
	if f.answer != nil {
		return f.answer(domain, what)
	}
	if what == "stats" {
		return 200, `{"organizationPrevalence":0}`
	}
	return 200, `{"value":[]}`
}

// byDomain is when each domain was asked.
func (f *farEnd) byDomain() map[string][]time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.asked)
}

// callsOf is when an API was called.
func (f *farEnd) callsOf(what string) []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[what]
}

// forget makes byDomain begin anew.
func (f *farEnd) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.asked)
}

// within counts the calls of the span before now.
func within(calls []time.Time, now time.Time, span time.Duration) int {
	after := now.Add(-span)
	at, _ := slices.BinarySearchFunc(calls, after, func(call, after time.Time) int {
		if call.After(after) {
			return 1
		}
		return -1
	})
	return len(calls) - at
}

// worst is the largest number of calls in any span.
func worst(calls []time.Time, span time.Duration) int {
	most, first := 0, 0
	for i, call := range calls {
		for call.Sub(calls[first]) >= span {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

func (f *farEnd) client(t testing.TB, ledger client.Ledger, observer client.Observer) *client.Client {
	t.Helper()
	return newClient(t, f, ledger, observer)
}

func domainNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("d%05d.example", i)
	}
	return names
}

var simulate = flag.Bool("simulate", false, "simulate long watch lists, too, and print the table of docs/performance.md")

// TestTheWatchListsSchedule simulates the watch list under full load, in fake
// time, against a far end that counts.
func TestTheWatchListsSchedule(t *testing.T) {
	sizes := []int{10, 100, 1000}
	if *simulate {
		sizes = append(sizes, 10_000)
	}
	var table strings.Builder
	for i, n := range sizes {
		for j, storage := range []string{"with", "without"} {
			if !*simulate && i%2 == j {
				continue
			}
			var ledger client.Ledger
			if storage == "with" {
				ledger = emptyLedger{}
			}
			t.Run(fmt.Sprint(n, " domains ", storage, " storage"), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { simulateFullLoad(t, n, storage, ledger, &table) })
			})
		}
	}
	if *simulate {
		t.Log("\n| domains | storage | first covered after | N × 2.4 s | oldest value | quota used | worst minute | worst hour | refused |\n" +
			"|---|---|---|---|---|---|---|---|---|\n" + table.String())
	}
}

func simulateFullLoad(t *testing.T, n int, name string, ledger client.Ledger, table io.Writer) {
	far := newFarEnd()
	random := rand.New(rand.NewPCG(uint64(n), 1))
	far.latency = func() time.Duration {
		far.mu.Lock()
		defer far.mu.Unlock()
		return 50*time.Millisecond + time.Duration(random.Int64N(int64(400*time.Millisecond)))
	}
	ideal := time.Duration(n) * 2400 * time.Millisecond
	metrics := collector.NewMetrics(prometheus.NewRegistry()).Tenant("contoso")
	w := Options{
		Env:    collector.Env{Shared: &collector.Shared{}, Tenant: "contoso", Logger: slog.New(slog.DiscardHandler), Metrics: metrics},
		Config: Config{Domains: domainNames(n)}, Interval: ideal, MaxAge: 10 * ideal,
	}.collector(far.client(t, ledger, metrics))
	start := time.Now()
	r := collector.NewRefresher(collector.RefresherOptions{
		Env:       collector.Env{Tenant: "contoso", Name: "watched_domains", Logger: slog.New(slog.DiscardHandler)},
		Schedule:  collector.Schedule{RefreshInterval: model.Duration(ideal), Continuous: true},
		Collector: w, Exposition: &collector.Exposition{},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	for len(far.byDomain()) < n {
		time.Sleep(time.Second)
	}
	coverage := time.Since(start).Round(time.Second)
	time.Sleep(ideal + 2*time.Hour) // Until the bursts of the fill are behind.
	steady := time.Now()
	time.Sleep(max(3*ideal, 2*time.Hour))
	end := time.Now()
	cancel()
	<-done
	synctest.Wait()

	calls := far.callsOf("machines")
	used := 0
	for _, call := range calls {
		if call.After(steady) && !call.After(end) {
			used++
		}
	}
	share := float64(used) / (end.Sub(steady).Hours() * 1500)
	var oldest time.Duration
	for _, asked := range far.byDomain() {
		for i := 1; i < len(asked); i++ {
			if asked[i].After(steady) && asked[i-1].After(steady.Add(-ideal)) {
				oldest = max(oldest, asked[i].Sub(asked[i-1]))
			}
		}
	}
	if limit := ideal*1005/1000 + time.Second; oldest > limit {
		t.Errorf("a value was %s old, want %s at most", oldest, limit)
	}
	if share < 0.995 {
		t.Errorf("%.2f %% of the quota was used", 100*share)
	}
	if far.refused > 0 {
		t.Errorf("%d calls were refused", far.refused)
	}
	fmt.Fprintf(table, "| %d | %s | %s | %s | %s | %.2f %% | %d | %d | %d |\n", n, name,
		coverage, ideal, oldest.Round(time.Second), 100*share, worst(calls, time.Minute), worst(calls, time.Hour), far.refused)
}

func TestAShortListOnAShortIntervalStartsAtItsOwnPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := newFarEnd()
		metrics := collector.NewMetrics(prometheus.NewRegistry()).Tenant("contoso")
		w := Options{
			Env:    collector.Env{Shared: &collector.Shared{}, Tenant: "contoso", Logger: slog.New(slog.DiscardHandler), Metrics: metrics},
			Config: Config{Domains: domainNames(3)}, Interval: 2 * time.Second,
		}.collector(far.client(t, nil, metrics))
		r := collector.NewRefresher(collector.RefresherOptions{
			Env:       collector.Env{Tenant: "contoso", Name: "watched_domains", Logger: slog.New(slog.DiscardHandler)},
			Schedule:  collector.Schedule{RefreshInterval: model.Duration(2 * time.Second), Continuous: true},
			Collector: w, Exposition: &collector.Exposition{},
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.Run(ctx) })
		oldest := func() time.Duration {
			var oldest time.Duration
			for _, d := range w.Page().Table.Rows {
				oldest = max(oldest, time.Since(d.At))
			}
			return oldest
		}
		for range 20 {
			time.Sleep(time.Second)
			if age := oldest(); age > 3*time.Second {
				t.Errorf("a value is %s old while there is quota to spare", age)
			}
		}
		var after time.Duration
		for range 2 * 60 * 60 {
			time.Sleep(time.Second)
			after = max(after, oldest())
		}
		if limit := w.lockedMaxAge(); after > limit {
			t.Errorf("a value was %s old, and withdrawn after %s", after, limit)
		}
		if calls := far.callsOf("machines"); worst(calls, time.Hour) > 1500 || worst(calls, time.Minute) > 100 || far.refused > 0 {
			t.Errorf("%d calls in the worst minute, %d in the worst hour, %d refused", worst(calls, time.Minute), worst(calls, time.Hour), far.refused)
		}
		cancel()
		running.Wait()
	})
}
