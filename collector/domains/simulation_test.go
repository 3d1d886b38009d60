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

// domains is how many domains were asked.
func (f *farEnd) domains() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asked)
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
	for far.domains() < n {
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

// simulatedList is a watch list of a simulation.
type simulatedList struct {
	name     string
	domains  int
	interval time.Duration
	allowed  time.Duration // What the quota allows.
}

// TestTheScheduleOfSeveralWatchLists simulates mixed lists within one quota, in fake
// time, against a far end that counts.
func TestTheScheduleOfSeveralWatchLists(t *testing.T) {
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
	far := newFarEnd()
	random := rand.New(rand.NewPCG(7, 1))
	far.latency = func() time.Duration {
		far.mu.Lock()
		defer far.mu.Unlock()
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
	w := New(config, collector.Env{Shared: &collector.Shared{}, Tenant: "contoso", Logger: slog.New(slog.DiscardHandler), Metrics: metrics}, far.client(t, ledger, metrics))
	begin := time.Now()
	r := collector.NewRefresher(collector.RefresherOptions{
		Env:       collector.Env{Tenant: "contoso", Name: "watched_domains", Logger: slog.New(slog.DiscardHandler)},
		Schedule:  collector.Schedule{RefreshInterval: model.Duration(time.Hour), Continuous: true},
		Collector: w, Exposition: &collector.Exposition{},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	for far.domains() < domains {
		time.Sleep(time.Second)
	}
	filled := time.Now()
	time.Sleep(longest + 2*time.Hour) // Until the bursts of the fill are behind.
	steady := time.Now()
	time.Sleep(max(longest*11/10, 2*time.Hour))
	end := time.Now()
	cancel()
	<-done
	synctest.Wait()

	used := float64(within(far.callsOf("machines"), end, end.Sub(steady))) / (end.Sub(steady).Hours() * 1500)
	isOverfull := false
	for _, l := range lists {
		var first time.Time
		var filling, oldest time.Duration
		calls := 0
		for domain, asked := range far.byDomain() {
			if !strings.HasSuffix(domain, l.name+".example") {
				continue
			}
			if asked[0].After(first) {
				first = asked[0]
			}
			for i, at := range asked {
				if at.After(steady) && !at.After(end) {
					calls++
				}
				switch {
				case i == 0:
				case at.After(steady):
					oldest = max(oldest, at.Sub(asked[i-1]))
				case asked[i-1].Before(filled):
					filling = max(filling, at.Sub(asked[i-1]))
				}
			}
		}
		of := float64(calls) / (float64(l.domains) * float64(end.Sub(steady)) / float64(l.allowed))
		fmt.Fprintf(table, "| %s | %s: %d | %s | %s | %s | %s | %s | %s | %.2f %% | %.2f %% | %d | %d | %d |\n", mix, l.name, l.domains, storage, l.interval, l.allowed,
			first.Sub(begin).Round(time.Second), filling.Round(time.Second), oldest.Round(time.Second), 100*of, 100*used, worst(far.callsOf("machines"), time.Minute), worst(far.callsOf("machines"), time.Hour), far.refused)
		if limit := l.allowed*1005/1000 + 10*time.Second; oldest > limit {
			t.Errorf("a value of %s was %s old, want %s at most", l.name, oldest, limit)
		}
		// A start spends a minute's limit at once, waits for the rest of the minute, and
		// makes up for it within the hour at the cost of the list that is stretched.
		if limit := l.allowed*105/100 + 45*time.Second; filling > limit && l.allowed == l.interval {
			t.Errorf("while the lists were filled a value of %s was %s old, want %s at most", l.name, filling, limit)
		}
		if of < 0.995 {
			t.Errorf("%s got %.2f %% of its calls", l.name, 100*of)
		}
		isOverfull = isOverfull || l.allowed > l.interval
	}
	if isOverfull && used < 0.995 {
		t.Errorf("%.2f %% of the quota was used", 100*used)
	}
	if far.refused > 0 {
		t.Errorf("%d calls were refused", far.refused)
	}
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
