package domains

import (
	"context"
	"iter"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/attention"
	"github.com/mde-exporter/mde_exporter/collector/states"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

func TestLastSuccessIsThatOfTheOldestDomain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &collector.MemoryStore{}
		api := newFakeAPI()
		broken := ""
		api.respond = func(domain, _ string) (int, string) {
			if domain == broken {
				return 200, "no JSON"
			}
			return 200, page()
		}
		breaks := func(domain string) {
			api.mu.Lock()
			defer api.mu.Unlock()
			broken = domain
		}
		var w *collectortest.World
		var list *fakeListFile
		check := func(when string, low, high time.Duration) {
			t.Helper()
			synctest.Wait()
			if age, ok := age(t, w); !ok || age < low || age > high {
				t.Errorf("%s: age %s (%v), want %s to %s", when, age, ok, low, high)
			}
		}
		begin := func(domains ...string) (*Collector, func()) {
			w = collectortest.NewWorld()
			list = newFakeListFile(domains...)
			d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), nil, list.watch, func(o *Options) { o.Store = store })
			_, stop := start(t, w, d, time.Hour)
			synctest.Wait()
			return d, stop
		}

		breaks("a.example")
		d, stop := begin("a.example", "b.example", "c.example")
		time.Sleep(30 * time.Second)
		if _, ok := age(t, w); ok {
			t.Error("the list has an age before every domain was read")
		}
		breaks("")
		time.Sleep(2 * time.Minute)
		check("after all were read", 0, 3*time.Minute)

		breaks("b.example")
		time.Sleep(5 * time.Hour)
		check("domain failing for five hours", 5*time.Hour, 5*time.Hour+3*time.Minute)
		list.set(d, "a.example", "c.example")
		check("failing domain removed", 0, time.Hour)

		list.set(d, "a.example", "b.example", "c.example")
		time.Sleep(2 * time.Hour)
		check("failing domain added two hours ago", 2*time.Hour, 2*time.Hour+time.Minute)
		if list := collectortest.Value(w.Exposed(t), `mde_watched_domain_list_last_success_timestamp_seconds{list="default",tenant="contoso"}`); list != domainsMetric(t, w, "mde_refresh_last_success_timestamp_seconds") {
			t.Errorf("last success of the list %q, want the time the domain was added", list)
		}
		stop()
		time.Sleep(time.Hour)
		_, stop = begin("a.example", "b.example", "c.example")
		check("after a restart", 3*time.Hour, 3*time.Hour+time.Minute)
		stop()
		d, stop = begin("a.example", "b.example", "c.example", "d.example")
		check("after a restart with another domain", 3*time.Hour, 3*time.Hour+time.Minute)
		list.set(d, "d.example")
		check("domain added at the restart", 0, time.Minute)
		list.set(d)
		time.Sleep(5 * time.Hour)
		check("empty list", 0, time.Hour)
		stop()
	})
}

func TestListThatGrowsBeyondTheQuotaKeepsItsValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		list := newFakeListFile(domainNames(10)...)
		d := newDomains(w, newFakeAPI().client(t, emptyLedger{}, w.Tenant), nil, list.watch, func(o *Options) { o.MaxAge = 0 })
		start(t, w, d, time.Hour)
		time.Sleep(time.Minute)
		list.set(d, domainNames(6000)...) // Takes almost four hours.
		time.Sleep(190 * time.Minute)
		synctest.Wait()
		if got := collectortest.Value(w.Exposed(t), `mde_watched_domain_machines{domain="d00001.example",tenant="contoso"}`); got != "0" {
			t.Errorf("value of a remaining domain %q during the initial lookups, want it until max_age, %s", got, d.currentMaxAge())
		}
		if got := d.Page().Table.Rows; !got[1].Known || d.sorted[5999].queried || got[5999].Known {
			t.Errorf("domains %+v and %+v", got[1], got[5999])
		}
	})
}

func TestInvalidDomainIsReportedAndExcluded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &collector.MemoryStore{}
		api := newFakeAPI()
		invalid := true
		api.respond = func(domain, _ string) (int, string) {
			if domain == "bad.example" && invalid {
				return 400, `{"error":{"code":"InvalidDomainName","message":"as scripted"}}`
			}
			return 200, page(row(1, ""))
		}
		const series = `mde_watched_domain_invalid{domain="bad.example",tenant="contoso"}`
		const machines = `mde_watched_domain_machines{domain="bad.example",tenant="contoso"}`
		begin := func() (*collectortest.World, *Collector, *collector.Refresher, func()) {
			w := collectortest.NewWorld()
			d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), []string{"bad.example", "good.example"}, func(o *Options) { o.Store = store })
			r, stop := start(t, w, d, time.Hour)
			synctest.Wait()
			return w, d, r, stop
		}
		w, d, r, stop := begin()
		time.Sleep(5 * time.Hour)
		synctest.Wait()
		if got := w.Exposed(t); collectortest.Value(got, series) != "1" || collectortest.Value(got, machines) != "" || strings.Contains(got, `mde_watched_domain_invalid{domain="good.example"`) {
			t.Errorf("exposed:\n%s", got)
		}
		if age, ok := age(t, w); !ok || age > time.Hour+time.Minute || domainsMetric(t, w, "mde_refresh_success") != "1" || r.Status().Failures > 0 {
			t.Errorf("age %s (%v), status %+v", age, ok, r.Status())
		}
		if notes := r.Status().Page.Notes; len(notes) != 1 || !strings.Contains(notes[0], "1 of 2 domain names") || !strings.Contains(notes[0], "bad.example") {
			t.Errorf("notes %q", notes)
		}
		if s := d.Page().Table.Rows[0]; s.Instead != "invalid name" || s.Known || !d.sorted[0].queried || s.Error != "" {
			t.Errorf("status %+v", s)
		}
		if n := len(api.byDomain()["bad.example"]); n < 4 || n > 6 {
			t.Errorf("looked up %d times in five hours", n)
		}
		stop()
		api.reset()
		w, _, _, stop = begin()
		if got := w.Exposed(t); collectortest.Value(got, series) != "1" || len(api.byDomain()["bad.example"]) > 0 {
			t.Errorf("after a restart it is looked up immediately, or its result is lost:\n%s", got)
		}
		api.mu.Lock()
		invalid = false
		api.mu.Unlock()
		time.Sleep(61 * time.Minute)
		synctest.Wait()
		if got := w.Exposed(t); collectortest.Value(got, series) != "" || collectortest.Value(got, machines) != "1" {
			t.Errorf("after the API accepts the name:\n%s", got)
		}
		api.mu.Lock()
		invalid = true
		api.mu.Unlock()
		time.Sleep(61 * time.Minute)
		synctest.Wait()
		if got := w.Exposed(t); collectortest.Value(got, series) != "1" || collectortest.Value(got, machines) != "1" {
			t.Errorf("last count missing before max_age:\n%s", got)
		}
		time.Sleep(3 * time.Hour)
		if got := w.Exposed(t); collectortest.Value(got, series) != "1" || collectortest.Value(got, machines) != "" {
			t.Errorf("last count exposed after max_age:\n%s", got)
		}
		stop()
	})
}

func TestStartDeletesStoredResultsOfRemovedDomains(t *testing.T) {
	at := time.Now().Format(time.RFC3339)
	store := &collector.MemoryStore{Values: map[string]string{
		"watched_domains/on.example":  `{"at":"` + at + `","machines":1}`,
		"watched_domains/off.example": `{"at":"` + at + `","machines":1}`, // Not on the list.
		"watched_domains_attempt":     `{}`,
		"security_states":             `{}`,
	}}
	w := collectortest.NewWorld()
	d := newDomains(w, newFakeAPI().client(t, nil, w.Tenant), []string{"on.example"}, func(o *Options) { o.Store = store })
	d.Start(t.Context(), w.Publisher(d))
	keys, _ := store.Keys("")
	slices.Sort(keys)
	if want := []string{"security_states", "watched_domains", "watched_domains/on.example", "watched_domains_attempt"}; !slices.Equal(keys, want) {
		t.Errorf("stored keys %q, want %q", keys, want)
	}
}

// quickDomains is a Client that returns its machines immediately.
type quickDomains struct{ machines []client.Machine }

func (q *quickDomains) DomainMachines(context.Context, string) iter.Seq2[*client.Machine, error] {
	return collectortest.RowsOf(nil, q.machines...)
}

func (q *quickDomains) ContainsSecret(string) bool { return false }

func (q *quickDomains) DomainStatistics(context.Context, string) (client.DomainStatistics, error) {
	return client.DomainStatistics{}, nil
}

func (q *quickDomains) Quota(client.API) client.QuotaUse {
	return client.QuotaUse{Limits: client.Limits{CallsPerMinute: 100, CallsPerHour: 1500}, Known: true}
}

// blockingStore blocks each Save of a key until the test releases it.
type blockingStore struct {
	*collector.MemoryStore
	key             string
	saving, release chan struct{}
}

func (s *blockingStore) Save(key string, v any) error {
	if key == s.key {
		s.saving <- struct{}{}
		<-s.release
	}
	return s.MemoryStore.Save(key, v)
}

func TestResultOfRemovedDomainIsNotStored(t *testing.T) {
	store := &blockingStore{MemoryStore: &collector.MemoryStore{}, key: "watched_domains/a.example", saving: make(chan struct{}), release: make(chan struct{})}
	w := collectortest.NewWorld()
	list := newFakeListFile("a.example")
	d := newDomains(w, &quickDomains{}, nil, list.watch, func(o *Options) { o.Store = store })
	ended := make(chan error)
	go func() { ended <- w.Refresher(d, time.Hour).Once(t.Context()) }()
	<-store.saving
	changed := make(chan struct{})
	go func() { defer close(changed); list.set(d) }()
	time.Sleep(50 * time.Millisecond) // Time to delete the stored result, if it does not wait.
	close(store.release)
	<-changed
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := collectortest.Stored(store, "watched_domains/a.example"); got != "" {
		t.Errorf("the store keeps %s", got)
	}
}

func TestListsAreStoredInOrder(t *testing.T) {
	store := &blockingStore{MemoryStore: &collector.MemoryStore{}, key: "watched_domains", saving: make(chan struct{}), release: make(chan struct{})}
	w := collectortest.NewWorld()
	list := newFakeListFile()
	d := newDomains(w, &quickDomains{}, nil, list.watch, func(o *Options) { o.Store = store })
	go d.Start(t.Context(), w.Publisher(d))
	<-store.saving
	store.release <- struct{}{}
	done := make(chan struct{})
	set := func(domains ...string) { list.set(d, domains...); done <- struct{}{} }
	go set("a.example")
	<-store.saving
	go set("b.example")
	select {
	case <-store.saving: // The second save overtook the first.
		store.release <- struct{}{}
		<-done
	case <-time.After(50 * time.Millisecond):
	}
	store.release <- struct{}{}
	select {
	case <-store.saving:
		store.release <- struct{}{}
		<-done
	case <-time.After(50 * time.Millisecond):
	}
	<-done
	if got := collectortest.Stored(store, "watched_domains"); !strings.Contains(got, "b.example") || strings.Contains(got, "a.example") {
		t.Errorf("stored %s, want the list with b.example", got)
	}
}

func TestOlderJoinDoesNotOverwriteANewerOne(t *testing.T) {
	w := collectortest.NewWorld()
	fleet := &attention.Index{}
	index := func(property string) *attention.State {
		return &attention.State{At: time.Now(), MaxAge: time.Hour, Machines: attention.New(machineSets{id(1): {1}}, []string{property}, []int{0})}
	}
	d := newDomains(w, &quickDomains{machines: []client.Machine{{ID: id(1)}}}, []string{"a.example"}, func(o *Options) { o.Attention = fleet })
	if err := w.Refresher(d, time.Hour).Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	fleet.Set(index("Older"))
	joined := make(chan struct{})
	d.mu.Lock()
	go func() { defer close(joined); d.rejoin() }()
	time.Sleep(50 * time.Millisecond) // Time to wait for the lock.
	fleet.Set(index("Newer"))
	d.mu.Unlock()
	<-joined
	if got := w.Exposed(t); !strings.Contains(got, `property="Newer"`) {
		t.Errorf("joined with the older fleet:\n%s", got)
	}
}

func TestLowerMaxAgeWithdrawsTheJoinWithTheFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &collector.MemoryStore{}
		api := newFakeAPI()
		api.respond = responses(map[string]string{"evil.example": page(row(1, ""))})
		begin := func(maxAge time.Duration, withFleet bool) (*collectortest.World, *states.Collector, func()) {
			w := collectortest.NewWorld()
			states := statesOf(w, &fakeStates{StateRows: collectortest.RowsOf(nil, state(1, "AntivirusOff"))}, func(o *statesOptions) { o.MaxAge, o.Store = maxAge, store })
			d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), []string{"evil.example"}, func(o *Options) {
				if o.Store = store; withFleet {
					o.Attention = attention.Of(w.Shared)
				}
			})
			states.Start(t.Context(), w.Publisher(states))
			_, stop := start(t, w, d, time.Hour)
			synctest.Wait()
			return w, states, stop
		}
		const attention = `mde_watched_domain_machines_attention{domain="evil.example",property="AntivirusOff",tenant="contoso"}`
		w, states, stop := begin(45*time.Minute, true)
		if err := w.Refresh(t.Context(), states); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		stop()
		for _, test := range []struct {
			maxAge    time.Duration
			withFleet bool
			want      string
		}{{45 * time.Minute, true, "1"}, {20 * time.Minute, true, "1"}, {5 * time.Minute, true, ""}, {45 * time.Minute, false, ""}} {
			w, _, stop = begin(test.maxAge, test.withFleet)
			got := w.Exposed(t)
			if collectortest.Value(got, attention) != test.want || test.withFleet && (collectortest.Value(got, `mde_machines{architecture="Amd64",os_build="19045",tenant="contoso"}`) != test.want) {
				t.Errorf("with max_age %s, fleet %v, want %q:\n%s", test.maxAge, test.withFleet, test.want, got)
			}
			stop()
		}
	})
}

// A monotonic clock stops while a machine is suspended.
func TestResultsHaveWallClockTime(t *testing.T) {
	w := collectortest.NewWorld()
	d := newDomains(w, &quickDomains{machines: []client.Machine{{ID: id(1)}}}, []string{"a.example"}, func(o *Options) { o.Statistics = true })
	if err := w.Refresher(d, time.Hour).Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := d.find("a.example").result
	for name, at := range map[string]time.Time{"the result": r.At, "the statistics": r.Statistics.At} {
		if strings.Contains(at.String(), "m=") {
			t.Errorf("the time of %s has a monotonic clock reading: %s", name, at)
		}
	}
	for _, b := range d.find("a.example").blocks {
		if strings.Contains(b.Expires.String(), "m=") {
			t.Errorf("a block expires by the monotonic clock: %s", b.Expires)
		}
	}
}

func TestStoredJoinIsExposedOnlyWithItsFleet(t *testing.T) {
	store := &collector.MemoryStore{}
	run := func(fleet *attention.Index, refresh bool) string {
		w := collectortest.NewWorld()
		d := newDomains(w, &quickDomains{machines: []client.Machine{{ID: id(1)}}}, []string{"a.example"}, func(o *Options) { o.Attention, o.Store = fleet, store })
		if refresh {
			if err := w.Refresher(d, time.Hour).Once(t.Context()); err != nil {
				t.Fatal(err)
			}
		} else {
			d.Start(t.Context(), w.Publisher(d))
		}
		return w.Exposed(t)
	}
	fleet := &attention.Index{}
	fleet.Set(&attention.State{At: time.Now(), MaxAge: time.Hour, Machines: attention.New(machineSets{id(1): {1}}, []string{"AntivirusOff"}, []int{0})})
	const join = `mde_watched_domain_machines_attention{domain="a.example",property="AntivirusOff",tenant="contoso"}`
	if got := run(fleet, true); collectortest.Value(got, join) != "1" {
		t.Fatalf("no join:\n%s", got)
	}
	at := fleet.Current().At
	restored, older := &attention.Index{}, &attention.Index{}
	restored.Resume(at, time.Hour)
	older.Resume(at.Add(-time.Minute), time.Hour)
	if got := run(restored, false); collectortest.Value(got, join) != "1" {
		t.Errorf("stored join not exposed with the restored states:\n%s", got)
	}
	if got := run(older, false); strings.Contains(got, "attention") {
		t.Errorf("stored join exposed with older states:\n%s", got)
	}
	if got := run(&attention.Index{}, false); strings.Contains(got, "attention") {
		t.Errorf("stored join exposed without states:\n%s", got)
	}
}

func TestStoredResultCountsAsALookupUntilMaxAge(t *testing.T) {
	for name, tc := range map[string]struct {
		age  time.Duration
		once bool
		want int
	}{
		"fresh":                      {3*time.Hour - 1, false, 1},
		"expired":                    {3 * time.Hour, false, 0},
		"fresh, but to be read once": {time.Minute, true, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			at := time.Now().Add(-tc.age).Format(time.RFC3339Nano)
			store := &collector.MemoryStore{Values: map[string]string{"watched_domains/a.example": `{"at":"` + at + `","machines":1}`}}
			w := collectortest.NewWorld()
			d := newDomains(w, &quickDomains{}, []string{"a.example"}, func(o *Options) { o.Store, o.Once = store, tc.once })
			d.Start(t.Context(), w.Publisher(d))
			if p := d.Page().Progress; p.Done != tc.want {
				t.Errorf("%s: %d domains looked up, want %d", name, p.Done, tc.want)
			}
		})
	}
}

func TestStoredTimeOfAdditionIsIgnoredIfInTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for after, want := range map[time.Duration]time.Duration{-time.Hour: -time.Hour, time.Hour: 0} {
			added := time.Now().Add(after).Format(time.RFC3339Nano)
			store := &collector.MemoryStore{Values: map[string]string{"watched_domains": `{"filled":true,"added":{"a.example":"` + added + `"}}`}}
			w := collectortest.NewWorld()
			d := newDomains(w, &quickDomains{}, []string{"a.example"}, func(o *Options) { o.Store = store })
			d.Start(t.Context(), w.Publisher(d))
			if got, want := collectortest.Value(w.Exposed(t), `mde_watched_domain_list_last_success_timestamp_seconds{list="default",tenant="contoso"}`), time.Now().Add(want); got != strconv.FormatFloat(collector.UnixSeconds(want), 'g', -1, 64) {
				t.Errorf("added %s from now: the list's values are of %s, want %s", after, got, want)
			}
		}
	})
}

func TestStoredResultIsJoinedWithTheCurrentFleet(t *testing.T) {
	store := &collector.MemoryStore{}
	for _, property := range []string{"AntivirusOff", "AntivirusNotReporting"} {
		fleet := &attention.Index{}
		fleet.Set(&attention.State{At: time.Now(), MaxAge: time.Hour, Machines: attention.New(machineSets{id(1): {1}}, []string{property}, []int{0})})
		w := collectortest.NewWorld()
		d := newDomains(w, &quickDomains{machines: []client.Machine{{ID: id(1)}}}, []string{"a.example"}, func(o *Options) { o.Attention, o.Store = fleet, store })
		if d.Start(t.Context(), w.Publisher(d)); property == "AntivirusOff" {
			refreshOnce(t, w, d)
		}
		if got := w.Exposed(t); collectortest.Value(got, `mde_watched_domain_machines_attention{domain="a.example",property="`+property+`",tenant="contoso"}`) != "1" {
			t.Errorf("not joined with the current fleet:\n%s", got)
		}
	}
}
