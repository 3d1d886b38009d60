package collector

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

func (w *world) publish(t *testing.T, p *Publisher, zones ...string) {
	t.Helper()
	p.Publish(Snapshot{Blocks: []*Block{testBlock(t, "contoso", time.Time{}, zones...)}})
}

func TestAPublisherThatIsClosedDoesNothing(t *testing.T) {
	const a, b = `mde_test{tenant="contoso",zone="a"}`, `mde_test{tenant="contoso",zone="b"}`
	w := newWorld()
	p := w.exposition.Publisher("contoso", "one")
	p.begin(time.Minute)
	w.publish(t, p, "a")
	p.Close()
	w.publish(t, p, "a", "b")
	p.succeeded(nil, time.Second)
	if got := w.scraped(t); value(got, a) != "0" || value(got, b) != "" || strings.Contains(got, "mde_refresh_success") {
		t.Errorf("after Close, want what was published before:\n%s", got)
	}

	successor := w.exposition.Publisher("contoso", "one")
	successor.begin(time.Hour)
	w.publish(t, successor, "b")
	w.publish(t, p, "a")
	if got := w.scraped(t); value(got, a) != "" || value(got, b) == "" {
		t.Errorf("a publisher that is closed overwrote its successor:\n%s", got)
	}

	successor.Withdraw()
	w.publish(t, successor, "b")
	successor.failed(errors.New("no"), time.Second)
	if got := w.scraped(t); got != "" {
		t.Errorf("after Withdraw:\n%s", got)
	}
}

func TestWhatASnapshotSharesAppearsWithIt(t *testing.T) {
	w := newWorld()
	fleet, domains := w.exposition.Publisher("contoso", "fleet"), w.exposition.Publisher("contoso", "domains")
	other := w.exposition.Publisher("fabrikam", "fleet")
	w.publish(t, fleet, "old fleet")
	w.publish(t, domains, "old join")
	before := w.scraped(t)
	fleet.Publish(Snapshot{
		Blocks: []*Block{testBlock(t, "contoso", time.Time{}, "new fleet")},
		Share: func() {
			w.publish(t, domains, "new join")
			if got := w.scraped(t); got != before {
				t.Errorf("amid the change:\n%s\nwant:\n%s", got, before)
			}
			other.Publish(Snapshot{Blocks: []*Block{testBlock(t, "fabrikam", time.Time{}, "x")}})
			if got := w.scraped(t); !strings.Contains(got, "fabrikam") {
				t.Errorf("another tenant waits:\n%s", got)
			}
		},
	})
	if got := w.scraped(t); strings.Contains(got, "old") || !strings.Contains(got, "new fleet") || !strings.Contains(got, "new join") {
		t.Errorf("after the change:\n%s", got)
	}

	fleet.Close()
	fleet.Publish(Snapshot{Share: func() { t.Error("a publisher that is closed shares") }})
}

// outcomes is a Collector whose refreshes end as listed.
type outcomes struct {
	*scripted
	list []Outcome
}

func (o *outcomes) Refresh(ctx context.Context) (Outcome, error) {
	_, err := o.scripted.Refresh(ctx)
	return o.list[min(len(o.starts), len(o.list))-1], err
}

func TestAPendingRefreshIsNeitherSuccessNorFailure(t *testing.T) {
	const labels = `{collector="security_states",tenant="contoso"}`
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c := &outcomes{
			&scripted{name: "security_states", refresh: func(_ context.Context, n int) error {
				time.Sleep(time.Second)
				if n == 2 {
					return errors.New("no")
				}
				return nil
			}},
			[]Outcome{{Pending: true}, {Pending: true}, {Pending: true}, {Snapshot: &Snapshot{At: time.Now()}}},
		}
		r := w.refresher(c, time.Hour)
		var success, refreshes []string
		for range 4 {
			if _, err := r.refresh(t.Context()); (err != nil) != (len(c.starts) == 2) {
				t.Error(err)
			}
			got := w.scraped(t)
			success = append(success, value(got, "mde_refresh_success"+labels))
			refreshes = append(refreshes, value(got, "mde_refreshes_total"+labels))
		}
		if !slices.Equal(success, []string{"", "0", "", "1"}) || !slices.Equal(refreshes, []string{"0", "1", "1", "2"}) {
			t.Errorf("success %q, refreshes %q", success, refreshes)
		}
	})
}

func TestOnceRefreshesUntilNothingIsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c := &outcomes{
			&scripted{name: watchedDomainsName, refresh: func(_ context.Context, n int) error {
				if n == 2 {
					return errors.New("no")
				}
				return nil
			}},
			[]Outcome{{Pending: true}, {Pending: true, Partial: true}, {}},
		}
		if err := w.refresher(c, time.Hour).Once(t.Context()); err != nil || len(c.starts) != 3 {
			t.Errorf("%d refreshes, error %v", len(c.starts), err)
		}
	})
}

func TestReadyOnceThereIsSomethingToShowOrAFailure(t *testing.T) {
	domain := func(c func(*farEnd) http.RoundTripper, list ...string) func(*testing.T, *world, Store) Collector {
		return func(t *testing.T, w *world, s Store) Collector {
			return w.domains(newClient(t, c(newFarEnd()), emptyLedger{}, w.tenant), list, func(o *WatchedDomainsOptions) { o.Store = s })
		}
	}
	answering := func(f *farEnd) http.RoundTripper { return f }
	states := func(f func(*fakeStates)) func(*testing.T, *world, Store) Collector {
		return func(_ *testing.T, w *world, s Store) Collector {
			fake := &fakeStates{states: rowsOf(nil, previewFleet()...)}
			f(fake)
			return w.states(fake, func(o *SecurityStatesOptions) { o.Store = s })
		}
	}
	stored := func(age time.Duration) *memoryStore {
		store, w := &memoryStore{}, newWorld()
		if err := w.refresh(t.Context(), w.states(&fakeStates{states: rowsOf(nil, previewFleet()...)}, func(o *SecurityStatesOptions) { o.Store = store })); err != nil {
			t.Fatal(err)
		}
		time.Sleep(age)
		return store
	}
	hang := func(f *fakeStates) {
		f.states = func(func(*client.SecurityState, error) bool) { time.Sleep(time.Hour) }
	}
	none := func() *memoryStore { return &memoryStore{} }
	for name, tc := range map[string]struct {
		store     func() *memoryStore
		collector func(*testing.T, *world, Store) Collector
		want      bool
	}{
		"states that were read":                  {none, states(func(*fakeStates) {}), true},
		"states whose first refresh runs":        {none, states(hang), false},
		"stored states, amid the first refresh":  {func() *memoryStore { return stored(30 * time.Minute) }, states(hang), true},
		"stored states that are too old to show": {func() *memoryStore { return stored(50 * time.Minute) }, states(hang), false},
		"states that failed": {none, states(func(f *fakeStates) {
			f.states = rowsOf[client.SecurityState](apiError(client.MachineSecurityStates, 500))
		}), true},
		"an empty watch list":                   {none, domain(answering), true},
		"the first domain of many was answered": {none, domain(answering, domainNames(10_000)...), true},
		"no domain was answered so far":         {none, domain(func(f *farEnd) http.RoundTripper { return &hangingDomain{f, "evil"} }, "evil.example"), false},
		"one of two domains hangs":              {none, domain(func(f *farEnd) http.RoundTripper { return &hangingDomain{f, "evil"} }, "evil.example", "bad.example"), true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, w := tc.store(), newWorld()
				c := tc.collector(t, w, store)
				r := NewRefresher(RefresherOptions{
					Tenant: "contoso", Name: nameOf(c), Collector: c, Interval: 15 * time.Minute, Resume: true, Store: store,
					Continuous: nameOf(c) == watchedDomainsName, Exposition: w.exposition, Logger: w.logger,
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

// TestAgesAreThoseOfTheWallClock looks for readings of the monotonic clock, which
// stands still while a machine is suspended: values would outlive their time.
func TestAgesAreThoseOfTheWallClock(t *testing.T) {
	monotonic := func(t time.Time) bool { return strings.Contains(t.String(), " m=") }
	now := time.Now()
	if !monotonic(now) {
		t.Fatal("the clock has no monotonic reading")
	}
	w := newWorld()
	if b := testBlock(t, "contoso", now.Add(time.Hour), "a"); monotonic(b.expires) {
		t.Errorf("a block expires at %s", b.expires)
	}
	c := &scripted{name: "security_states", refresh: func(context.Context, int) error { return nil }}
	r := w.refresher(c, time.Hour)
	if err := r.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := r.Status(); monotonic(s.LastSuccess) || monotonic(s.Started) || monotonic(s.Finished) {
		t.Errorf("status %+v", s)
	}
}
