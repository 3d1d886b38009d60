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

// fakeAPI is a transport that simulates the service. It counts calls as the service
// does and responds 429 past its limits.
type fakeAPI struct {
	latency func() time.Duration
	respond func(domain, what string) (status int, body string) // Nil means 200 without machines.

	mu        sync.Mutex
	calls     map[string][]time.Time // By API.
	lookups   map[string][]time.Time // By domain.
	throttled int
	tokens    int
}

func newFakeAPI() *fakeAPI {
	return &fakeAPI{
		latency: func() time.Duration { return 0 },
		calls:   make(map[string][]time.Time),
		lookups: make(map[string][]time.Time),
	}
}

// RoundTrip simulates the sign-in host and the Defender API.
func (f *fakeAPI) RoundTrip(r *http.Request) (*http.Response, error) {
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

func (f *fakeAPI) serve(r *http.Request) (int, string) {
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
		f.throttled++
		return 429, ""
	}
	f.calls[what] = append(f.calls[what], now)
	if what == "machines" {
		f.lookups[domain] = append(f.lookups[domain], now)
	}
	if f.respond != nil {
		return f.respond(domain, what)
	}
	if what == "stats" {
		return 200, `{"organizationPrevalence":0}`
	}
	return 200, `{"value":[]}`
}

// byDomain returns the times of the lookups of each domain.
func (f *fakeAPI) byDomain() map[string][]time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.lookups)
}

// domains returns the number of domains that were looked up.
func (f *fakeAPI) domains() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.lookups)
}

// callsOf returns the times of the calls of an API.
func (f *fakeAPI) callsOf(what string) []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[what]
}

// reset clears the lookups that byDomain returns.
func (f *fakeAPI) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.lookups)
}

// within returns the number of calls in the span before now.
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

// worst returns the largest number of calls in any span.
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

func (f *fakeAPI) client(t testing.TB, ledger client.Ledger, observer client.Observer) *client.Client {
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

// TestWatchListSchedule simulates a watch list under full load in fake time.
func TestWatchListSchedule(t *testing.T) {
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
	api := newFakeAPI()
	random := rand.New(rand.NewPCG(uint64(n), 1))
	api.latency = func() time.Duration {
		api.mu.Lock()
		defer api.mu.Unlock()
		return 50*time.Millisecond + time.Duration(random.Int64N(int64(400*time.Millisecond)))
	}
	ideal := time.Duration(n) * 2400 * time.Millisecond
	metrics := collector.NewMetrics(prometheus.NewRegistry()).Tenant("contoso")
	w := Options{
		Env:    collector.Env{Shared: &collector.Shared{}, Tenant: "contoso", Logger: slog.New(slog.DiscardHandler), Metrics: metrics},
		Config: Config{Domains: domainNames(n)}, Interval: ideal, MaxAge: 10 * ideal,
	}.collector(api.client(t, ledger, metrics))
	start := time.Now()
	r := collector.NewRefresher(collector.RefresherOptions{
		Env:       collector.Env{Tenant: "contoso", Name: "watched_domains", Logger: slog.New(slog.DiscardHandler)},
		Schedule:  collector.Schedule{RefreshInterval: model.Duration(ideal), Continuous: true},
		Collector: w, Exposition: &collector.Exposition{},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	for api.domains() < n {
		time.Sleep(time.Second)
	}
	coverage := time.Since(start).Round(time.Second)
	time.Sleep(ideal + 2*time.Hour) // Until the bursts of the initial lookups have no effect.
	steady := time.Now()
	time.Sleep(max(3*ideal, 2*time.Hour))
	end := time.Now()
	cancel()
	<-done
	synctest.Wait()

	calls := api.callsOf("machines")
	used := 0
	for _, call := range calls {
		if call.After(steady) && !call.After(end) {
			used++
		}
	}
	share := float64(used) / (end.Sub(steady).Hours() * 1500)
	var oldest time.Duration
	for _, lookups := range api.byDomain() {
		for i := 1; i < len(lookups); i++ {
			if lookups[i].After(steady) && lookups[i-1].After(steady.Add(-ideal)) {
				oldest = max(oldest, lookups[i].Sub(lookups[i-1]))
			}
		}
	}
	if limit := ideal*1005/1000 + time.Second; oldest > limit {
		t.Errorf("oldest value %s old, want at most %s", oldest, limit)
	}
	if share < 0.995 {
		t.Errorf("%.2f%% of the quota used", 100*share)
	}
	if api.throttled > 0 {
		t.Errorf("%d calls were throttled", api.throttled)
	}
	fmt.Fprintf(table, "| %s | %s | %s | %s | %s | %.2f%% | %s | %s | %d |\n", collector.Number(n), name,
		coverage, ideal, oldest.Round(time.Second), 100*share, collector.Number(worst(calls, time.Minute)), collector.Number(worst(calls, time.Hour)), api.throttled)
}

// simulatedList configures a watch list of a simulation.
type simulatedList struct {
	name     string
	domains  int
	interval time.Duration
	allowed  time.Duration // What the quota allows.
}

// TestScheduleOfSeveralWatchLists simulates several lists with one quota in fake time.
func TestScheduleOfSeveralWatchLists(t *testing.T) {
	const day = 24 * time.Hour
	mixes := []struct {
		name  string
		long  bool // Only with -simulate.
		lists []simulatedList
	}{
		{"mixed", true, []simulatedList{{"c2", 100, 15 * time.Minute, 15 * time.Minute}, {"phishing", 1000, 4 * time.Hour, 4 * time.Hour}, {"unwanted", 8000, day, day}}},
		{"overfull", true, []simulatedList{{"c2", 100, 15 * time.Minute, 15 * time.Minute}, {"phishing", 1000, time.Hour, time.Hour}, {"unwanted", 8000, day, 82*time.Hour + 46*time.Minute}}},
		{"small", false, []simulatedList{{"c2", 10, 2 * time.Minute, 2 * time.Minute}, {"phishing", 50, 20 * time.Minute, 20 * time.Minute}, {"unwanted", 200, 2 * time.Hour, 2 * time.Hour}}},
		{"small and overfull", false, []simulatedList{{"c2", 10, time.Minute, time.Minute}, {"phishing", 250, 20 * time.Minute, 20 * time.Minute}, {"unwanted", 100, 30 * time.Minute, 40*time.Minute + 54*time.Second}}},
	}
	var table strings.Builder
	for i, mix := range mixes {
		for j, storage := range []string{"with", "without"} {
			if !*simulate && (mix.long || i%2 == j) {
				continue
			}
			var ledger client.Ledger
			if storage == "with" {
				ledger = emptyLedger{}
			}
			t.Run(mix.name+" "+storage+" storage", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { simulateLists(t, mix.name, mix.lists, storage, ledger, &table) })
			})
		}
	}
	t.Log("\n| lists | list | storage | interval | allowed | first covered after | oldest value while lists are filled | oldest value | calls, of those wanted | quota used | worst minute | worst hour | refused |\n" +
		"|---|---|---|---|---|---|---|---|---|---|---|---|---|\n" + table.String())
}

func simulateLists(t *testing.T, mix string, lists []simulatedList, storage string, ledger client.Ledger, table io.Writer) {
	api := newFakeAPI()
	random := rand.New(rand.NewPCG(7, 1))
	api.latency = func() time.Duration {
		api.mu.Lock()
		defer api.mu.Unlock()
		return 50*time.Millisecond + time.Duration(random.Int64N(int64(400*time.Millisecond)))
	}
	config := Config{Schedule: collector.Schedule{RefreshInterval: model.Duration(time.Hour)}}
	longest := time.Duration(0)
	domains := 0
	for _, l := range lists {
		names := make([]string, l.domains)
		for i := range names {
			names[i] = fmt.Sprintf("d%05d.%s.example", i, l.name)
		}
		config.Lists = append(config.Lists, ListConfig{Name: l.name, RefreshInterval: model.Duration(l.interval), Domains: names})
		longest, domains = max(longest, l.allowed), domains+l.domains
	}
	metrics := collector.NewMetrics(prometheus.NewRegistry()).Tenant("contoso")
	w := New(config, collector.Env{Shared: &collector.Shared{}, Tenant: "contoso", Logger: slog.New(slog.DiscardHandler), Metrics: metrics}, api.client(t, ledger, metrics))
	begin := time.Now()
	r := collector.NewRefresher(collector.RefresherOptions{
		Env:       collector.Env{Tenant: "contoso", Name: "watched_domains", Logger: slog.New(slog.DiscardHandler)},
		Schedule:  collector.Schedule{RefreshInterval: model.Duration(time.Hour), Continuous: true},
		Collector: w, Exposition: &collector.Exposition{},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	for api.domains() < domains {
		time.Sleep(time.Second)
	}
	filled := time.Now()
	time.Sleep(longest + 2*time.Hour) // Until the bursts of the initial lookups have no effect.
	steady := time.Now()
	time.Sleep(max(longest*11/10, 2*time.Hour))
	end := time.Now()
	cancel()
	<-done
	synctest.Wait()

	used := float64(within(api.callsOf("machines"), end, end.Sub(steady))) / (end.Sub(steady).Hours() * 1500)
	isOverfull := false
	for _, l := range lists {
		var first time.Time
		var filling, oldest time.Duration
		calls := 0
		for domain, lookups := range api.byDomain() {
			if !strings.HasSuffix(domain, l.name+".example") {
				continue
			}
			if lookups[0].After(first) {
				first = lookups[0]
			}
			for i, at := range lookups {
				if at.After(steady) && !at.After(end) {
					calls++
				}
				switch {
				case i == 0:
				case at.After(steady):
					oldest = max(oldest, at.Sub(lookups[i-1]))
				case lookups[i-1].Before(filled):
					filling = max(filling, at.Sub(lookups[i-1]))
				}
			}
		}
		of := float64(calls) / (float64(l.domains) * float64(end.Sub(steady)) / float64(l.allowed))
		fmt.Fprintf(table, "| %s | %s: %s | %s | %s | %s | %s | %s | %s | %.2f%% | %.2f%% | %s | %s | %d |\n", mix, l.name, collector.Number(l.domains), storage, l.interval, l.allowed,
			first.Sub(begin).Round(time.Second), filling.Round(time.Second), oldest.Round(time.Second), 100*of, 100*used, collector.Number(worst(api.callsOf("machines"), time.Minute)), collector.Number(worst(api.callsOf("machines"), time.Hour)), api.throttled)
		if limit := l.allowed*1005/1000 + 10*time.Second; oldest > limit {
			t.Errorf("oldest value of %s %s old, want at most %s", l.name, oldest, limit)
		}
		// A start spends a minute's limit immediately and waits for the rest of the
		// minute. It catches up within the hour, at the cost of the stretched list.
		if limit := l.allowed*105/100 + 45*time.Second; filling > limit && l.allowed == l.interval {
			t.Errorf("during the initial lookups, oldest value of %s %s old, want at most %s", l.name, filling, limit)
		}
		if of < 0.995 {
			t.Errorf("%s got %.2f%% of its calls", l.name, 100*of)
		}
		isOverfull = isOverfull || l.allowed > l.interval
	}
	if isOverfull && used < 0.995 {
		t.Errorf("%.2f%% of the quota used", 100*used)
	}
	if api.throttled > 0 {
		t.Errorf("%d calls were throttled", api.throttled)
	}
}

func TestShortListStartsAtItsInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI()
		metrics := collector.NewMetrics(prometheus.NewRegistry()).Tenant("contoso")
		w := Options{
			Env:    collector.Env{Shared: &collector.Shared{}, Tenant: "contoso", Logger: slog.New(slog.DiscardHandler), Metrics: metrics},
			Config: Config{Domains: domainNames(3)}, Interval: 2 * time.Second,
		}.collector(api.client(t, nil, metrics))
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
				t.Errorf("value %s old although quota is available", age)
			}
		}
		var after time.Duration
		for range 2 * 60 * 60 {
			time.Sleep(time.Second)
			after = max(after, oldest())
		}
		if limit := w.currentMaxAge(); after > limit {
			t.Errorf("value %s old, withdrawn after %s", after, limit)
		}
		if calls := api.callsOf("machines"); worst(calls, time.Hour) > 1500 || worst(calls, time.Minute) > 100 || api.throttled > 0 {
			t.Errorf("%d calls in the worst minute, %d in the worst hour, %d throttled", worst(calls, time.Minute), worst(calls, time.Hour), api.throttled)
		}
		cancel()
		running.Wait()
	})
}
