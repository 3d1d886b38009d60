package domains

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/attention"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

func TestRestartKeepsTheTimeOfTheLastSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{}
		api := newFakeAPI()
		run := func() string {
			w := collectortest.NewWorld()
			states := statesOf(w, &fakeStates{StateRows: collectortest.RowsOf(nil, state(1))}, func(o *statesOptions) { o.Store = store })
			domains := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), []string{"evil.example"}, func(o *Options) { o.Store = store })
			for _, c := range []collector.Collector{states, domains} {
				r := collector.NewRefresher(collector.RefresherOptions{
					Env:       collector.Env{Tenant: "contoso", Name: collectortest.NameOf(c), Logger: w.Logger},
					Schedule:  collector.Schedule{RefreshInterval: model.Duration(time.Hour)},
					Collector: c, Resume: true, Exposition: w.Exposition,
				})
				collectortest.RunFor(t, r, time.Minute)
			}
			got := w.Scraped(t)
			return collectortest.Value(got, `mde_refresh_last_success_timestamp_seconds{collector="security_states",tenant="contoso"}`) + " " +
				collectortest.Value(got, `mde_refresh_last_success_timestamp_seconds{collector="watched_domains",tenant="contoso"}`)
		}
		before := run()
		api.respond = func(string, string) (int, string) { return 500, "" }
		if after := run(); after != before || strings.HasPrefix(before, " ") {
			t.Errorf("before the restart %q, after it %q", before, after)
		}
	})
}

// slowStore is a Store with the latency of a disk.
type slowStore struct{ collector.MemoryStore }

func (s *slowStore) Save(key string, v any) error {
	time.Sleep(10 * time.Millisecond)
	return s.MemoryStore.Save(key, v)
}

func TestReadyAfterFirstValuesOrFailure(t *testing.T) {
	domain := func(c func(*fakeAPI) http.RoundTripper, list ...string) func(*testing.T, *collectortest.World, collector.Store) collector.Collector {
		return func(t *testing.T, w *collectortest.World, s collector.Store) collector.Collector {
			return newDomains(w, newClient(t, c(newFakeAPI()), emptyLedger{}, w.Tenant), list, func(o *Options) { o.Store = s })
		}
	}
	responsive := func(f *fakeAPI) http.RoundTripper { return f }
	fleet := func(f func(*fakeStates)) func(*testing.T, *collectortest.World, collector.Store) collector.Collector {
		return func(_ *testing.T, w *collectortest.World, s collector.Store) collector.Collector {
			fake := &fakeStates{StateRows: collectortest.RowsOf(nil, state(1, "AntivirusOff"))}
			f(fake)
			return statesOf(w, fake, func(o *statesOptions) { o.Store = s })
		}
	}
	stored := func(age time.Duration) *collector.MemoryStore {
		store, w := &collector.MemoryStore{}, collectortest.NewWorld()
		if err := w.Refresh(t.Context(), statesOf(w, &fakeStates{StateRows: collectortest.RowsOf(nil, state(1, "AntivirusOff"))}, func(o *statesOptions) { o.Store = store })); err != nil {
			t.Fatal(err)
		}
		time.Sleep(age)
		return store
	}
	hang := func(f *fakeStates) {
		f.StateRows = func(func(*client.SecurityState, error) bool) { time.Sleep(time.Hour) }
	}
	none := func() *collector.MemoryStore { return &collector.MemoryStore{} }
	for name, tc := range map[string]struct {
		store     func() *collector.MemoryStore
		collector func(*testing.T, *collectortest.World, collector.Store) collector.Collector
		want      bool
	}{
		"states after a refresh":                         {none, fleet(func(*fakeStates) {}), true},
		"states during the first refresh":                {none, fleet(hang), false},
		"stored states during the first refresh":         {func() *collector.MemoryStore { return stored(30 * time.Minute) }, fleet(hang), true},
		"expired stored states during the first refresh": {func() *collector.MemoryStore { return stored(50 * time.Minute) }, fleet(hang), false},
		"states after a failure": {none, fleet(func(f *fakeStates) {
			f.StateRows = collectortest.RowsOf[client.SecurityState](apiError(client.MachineSecurityStates, 500))
		}), true},
		"empty watch list":             {none, domain(responsive), true},
		"first result of many domains": {none, domain(responsive, domainNames(10_000)...), true},
		"no result so api":             {none, domain(func(f *fakeAPI) http.RoundTripper { return &hangingDomain{f, "evil"} }, "evil.example"), false},
		"one of two domains hangs":     {none, domain(func(f *fakeAPI) http.RoundTripper { return &hangingDomain{f, "evil"} }, "evil.example", "bad.example"), true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, w := tc.store(), collectortest.NewWorld()
				c := tc.collector(t, w, store)
				r := collector.NewRefresher(collector.RefresherOptions{
					Env:       collector.Env{Tenant: "contoso", Name: collectortest.NameOf(c), Store: store, Logger: w.Logger},
					Schedule:  collector.Schedule{RefreshInterval: model.Duration(15 * time.Minute), Continuous: collectortest.NameOf(c) == "watched_domains"},
					Collector: c, Resume: true, Exposition: w.Exposition,
				})
				ctx, cancel := context.WithCancel(t.Context())
				var running sync.WaitGroup
				running.Go(func() { r.Run(ctx) })
				time.Sleep(20 * time.Second)
				if r.Ready() != tc.want || r.Status().Ready != tc.want {
					t.Errorf("ready %v, want %v", r.Ready(), tc.want)
				}
				cancel()
				time.Sleep(time.Hour)
				running.Wait()
			})
		})
	}
}

// TestRemovedDomainsAreNotExposedAgain stops a run while it joins a new fleet, and
// blocks the join.
func TestRemovedDomainsAreNotExposedAgain(t *testing.T) {
	w := collectortest.NewWorld()
	api := newFakeAPI()
	api.respond = responses(map[string]string{"stays.example": page(row(1, "")), "gone.example": page(row(1, ""))})
	c := api.client(t, emptyLedger{}, w.Tenant)
	states := statesOf(w, &fakeStates{StateRows: collectortest.RowsOf(nil, state(1, "AntivirusOff"))})
	run := func(d *Collector) (stop func() <-chan struct{}) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); w.Refresher(d, time.Hour).Run(ctx) }()
		return func() <-chan struct{} { cancel(); return done }
	}
	const gone = `mde_watched_domain_machines{domain="gone.example",tenant="contoso"}`
	old := newDomains(w, c, []string{"stays.example", "gone.example"}, func(o *Options) { o.Attention = attention.Of(w.Shared) })
	stop := run(old)
	for collectortest.Value(w.Exposed(t), gone) == "" {
		time.Sleep(time.Millisecond)
	}

	old.mu.Lock()
	refreshed := make(chan struct{})
	go func() { defer close(refreshed); _ = w.Refresh(t.Context(), states) }()
	time.Sleep(20 * time.Millisecond)
	done := stop()
	next := newDomains(w, c, []string{"stays.example"}, func(o *Options) { o.Attention = attention.Of(w.Shared) })
	select {
	case <-done:
		next.Start(t.Context(), w.Publisher(next))
		old.mu.Unlock()
	case <-time.After(50 * time.Millisecond):
		old.mu.Unlock()
		<-done
		next.Start(t.Context(), w.Publisher(next))
	}
	<-refreshed
	if got := w.Exposed(t); strings.Contains(got, "gone.example") {
		t.Errorf("after the end of the run:\n%s", got)
	}
}

// TestScrapeIsConsistent scrapes during refreshes: the exposed join and the timestamp
// must be those of the exposed fleet.
func TestScrapeIsConsistent(t *testing.T) {
	w := collectortest.NewWorld()
	var mu sync.Mutex
	var began []time.Time // Upper limit of the start of the refresh with index+1 machines.
	fake := &fakeStates{StateRows: func(yield func(*client.SecurityState, error) bool) {
		mu.Lock()
		began = append(began, time.Now())
		n := len(began)
		mu.Unlock()
		time.Sleep(2 * time.Millisecond)
		for i := range n {
			s := state(i+1, "19045", "Amd64", fmt.Sprintf("Property%d", n))
			if !yield(&s, nil) {
				return
			}
		}
	}}
	states := statesOf(w, fake)
	names := domainNames(300) // Enough that joining them takes some time.
	domains := newDomains(w, &quickDomains{machines: []client.Machine{{ID: id(1)}}}, names, func(o *Options) { o.Attention = attention.Of(w.Shared) })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { w.Refresher(domains, time.Hour).Run(ctx) })
	for collectortest.Value(w.Exposed(t), `mde_watched_domain_machines{domain="`+names[299]+`",tenant="contoso"}`) != "1" {
		time.Sleep(time.Millisecond)
	}
	running.Go(func() { w.Refresher(states, time.Millisecond).Run(ctx) })
	property := func(exposition, family string) string {
		for line := range strings.Lines(exposition) {
			if _, rest, ok := strings.Cut(line, `property="`); ok && strings.HasPrefix(line, family+"{") {
				name, _, _ := strings.Cut(rest, `"`)
				return name
			}
		}
		return ""
	}
	faults, fleets := 0, map[int]bool{}
	for end := time.Now().Add(time.Minute); len(fleets) < 10 && time.Now().Before(end); {
		got := w.Scraped(t)
		fleet, join := property(got, "mde_machines_attention"), property(got, "mde_watched_domain_machines_attention")
		n, _ := strconv.Atoi(collectortest.Value(got, `mde_machines{architecture="Amd64",os_build="19045",tenant="contoso"}`))
		seconds, _ := strconv.ParseFloat(collectortest.Value(got, `mde_refresh_last_success_timestamp_seconds{collector="security_states",tenant="contoso"}`), 64)
		success := collectortest.Value(got, `mde_refresh_success{collector="security_states",tenant="contoso"}`)
		if n == 0 {
			continue
		}
		fleets[n] = true
		at := time.UnixMilli(int64(math.Round(seconds * 1000)))
		mu.Lock()
		inTime := !at.After(began[n-1]) && (n == 1 || at.After(began[n-2].Add(-time.Millisecond)))
		mu.Unlock()
		if fleet != join || !inTime || success != "1" {
			if faults++; faults < 4 {
				t.Errorf("fleet %d with %s: join with %q, time %v (valid: %v), success %q", n, fleet, join, at, inTime, success)
			}
		}
	}
	cancel()
	running.Wait()
	if len(fleets) < 10 {
		t.Errorf("scraped %d fleets, want 10", len(fleets))
	}
}
