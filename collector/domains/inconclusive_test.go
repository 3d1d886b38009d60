package domains

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

// limitedDomains is a Client with a quota of the test.
type limitedDomains struct {
	quickDomains
	limits client.Limits                                         // Zero means those of quickDomains.
	isFull func() bool                                           // Nil is never.
	lookup func(ctx context.Context, domain string, n int) error // N counts the lookups of the domain. Nil responds.

	mu    sync.Mutex
	calls map[string]int
}

func (l *limitedDomains) Quota(api client.API) client.QuotaUse {
	use := l.quickDomains.Quota(api)
	if l.limits != (client.Limits{}) {
		use.Limits = l.limits
	}
	if l.isFull != nil && l.isFull() {
		use.HourCalls = use.Limits.CallsPerHour
	}
	return use
}

func (l *limitedDomains) DomainMachines(ctx context.Context, domain string) iter.Seq2[*client.Machine, error] {
	l.mu.Lock()
	if l.calls == nil {
		l.calls = make(map[string]int)
	}
	l.calls[domain]++
	n := l.calls[domain]
	l.mu.Unlock()
	if l.lookup != nil {
		return collectortest.RowsOf[client.Machine](l.lookup(ctx, domain, n))
	}
	return l.quickDomains.DomainMachines(ctx, domain)
}

func (l *limitedDomains) count(domain string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls[domain]
}

func TestIntervalWithoutALookupIsNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		l := &limitedDomains{limits: client.Limits{CallsPerMinute: 1, CallsPerHour: 4}}
		r, _ := start(t, w, newDomains(w, l, domainNames(1), func(o *Options) { o.Interval, o.MaxAge = 5*time.Minute, 0 }), 5*time.Minute)
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		if s, n := r.Status(), l.count("d00000.example"); n < 38 || n > 42 || s.Refreshes > n || s.Failures > 0 {
			t.Errorf("%d refreshes with %d lookups in ten hours, %d failed", s.Refreshes, n, s.Failures)
		}
	})
}

// While a lookup waits for quota, rounds count until the domain is overdue.
func TestRoundWithAnOverdueDomainIsNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		limits := client.Limits{CallsPerMinute: 100, CallsPerHour: 1500}
		var waits atomic.Bool
		begin := time.Now()
		l := &limitedDomains{
			limits: limits,
			isFull: func() bool { return waits.Load() && time.Since(begin)%(30*time.Minute) == 0 }, // When a round ends.
			lookup: func(_ context.Context, domain string, n int) error {
				if domain == "d00001.example" && n == 2 {
					waits.Store(true)
					time.Sleep(3 * time.Hour)
					waits.Store(false)
				}
				return nil
			},
		}
		r, _ := start(t, w, newDomains(w, l, domainNames(2), func(o *Options) { o.Interval, o.MaxAge = 30*time.Minute, 40*time.Minute }), 30*time.Minute)
		var counted []int
		for _, pause := range []time.Duration{45 * time.Minute, 30 * time.Minute, 105 * time.Minute} {
			time.Sleep(pause)
			synctest.Wait()
			counted = append(counted, r.Status().Refreshes)
		}
		if counted[1] != counted[0]+1 || counted[2] != counted[1] || r.Status().Failures > 0 {
			t.Errorf("%d refreshes after 45 minutes, 75 minutes and 3 hours, %d failed", counted, r.Status().Failures)
		}
	})
}

func TestDomainsThatFailedLeaveRoomForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		var mu sync.Mutex
		retrying, most := 0, 0
		l := &limitedDomains{}
		l.lookup = func(ctx context.Context, _ string, n int) error {
			if n == 1 {
				return &client.Error{API: client.DomainMachines, Reason: client.ReasonDecode}
			}
			mu.Lock()
			retrying++
			most = max(most, retrying)
			mu.Unlock()
			<-ctx.Done()
			return ctx.Err()
		}
		_, stop := start(t, w, newDomains(w, l, domainNames(20)), time.Hour)
		time.Sleep(30 * time.Minute)
		stop()
		if most != 4 {
			t.Errorf("%d of 8 concurrent lookups are of domains that failed, want 4", most)
		}
	})
}

func TestRetryDoesNotWaitForFirstLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		l := &limitedDomains{}
		l.lookup = func(ctx context.Context, domain string, _ int) error {
			if domain != "d00000.example" {
				<-ctx.Done() // Four of them hang.
				return ctx.Err()
			}
			return &client.Error{API: client.DomainMachines, Reason: client.ReasonDecode}
		}
		_, stop := start(t, w, newDomains(w, l, domainNames(5)), time.Hour)
		time.Sleep(5 * time.Minute)
		stop()
		if n := l.count("d00000.example"); n < 2 {
			t.Errorf("a domain that failed was looked up %d times in five minutes", n)
		}
	})
}

func TestLookupThatShutdownCancelsIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		l := &limitedDomains{}
		l.lookup = func(ctx context.Context, _ string, _ int) error {
			<-ctx.Done()
			return ctx.Err()
		}
		d := newDomains(w, l, domainNames(3))
		r, stop := start(t, w, d, time.Hour)
		time.Sleep(time.Second)
		stop()
		if row := d.Page().Table.Rows[0]; row.Error != "" || r.Ready() {
			t.Errorf("ready %v, row %+v", r.Ready(), row)
		}
	})
}

func TestDomainThatIsAddedDuringAnOutageIsLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		l := &limitedDomains{}
		var down atomic.Bool
		l.lookup = func(context.Context, string, int) error {
			if down.Load() {
				return &client.Error{API: client.DomainMachines, Reason: client.ReasonServer, Status: 500}
			}
			return nil
		}
		names := domainNames(100)
		list := newFakeListFile(names...)
		d := newDomains(w, l, nil, list.watch)
		start(t, w, d, time.Hour)
		time.Sleep(2 * time.Hour)
		down.Store(true)
		time.Sleep(3 * time.Hour)
		list.set(d, append(names, "new.example")...)
		time.Sleep(4 * time.Hour) // Each round is one lookup.
		if l.count("new.example") == 0 {
			t.Error("only domains that had responded are looked up")
		}
	})
}

func TestRestartBeforeEveryDomainRespondedHasNoAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &collector.MemoryStore{}
		l := &limitedDomains{}
		l.lookup = func(_ context.Context, domain string, _ int) error {
			if domain == "d00002.example" {
				return &client.Error{API: client.DomainMachines, Reason: client.ReasonDecode}
			}
			return nil
		}
		for range 2 {
			w := collectortest.NewWorld()
			_, stop := start(t, w, newDomains(w, l, domainNames(3), func(o *Options) { o.Store = store }), time.Hour)
			time.Sleep(time.Minute)
			synctest.Wait()
			if at := collectortest.Value(w.Exposed(t), `mde_watched_domain_list_last_success_timestamp_seconds{list="default",tenant="contoso"}`); at != "" {
				t.Errorf("the list is of %s", at)
			}
			stop()
		}
	})
}

func TestNoteWarnsOfAMaxAgeThatLookupsExceed(t *testing.T) {
	var cycle time.Duration // Of two domains at four calls an hour, as the first run exposes it.
	for _, tc := range []struct {
		later time.Duration // Than the cycle.
		warns bool
	}{{-time.Minute, true}, {0, true}, {time.Millisecond, false}} {
		synctest.Test(t, func(t *testing.T) {
			w := collectortest.NewWorld()
			l := &limitedDomains{limits: client.Limits{CallsPerMinute: 1, CallsPerHour: 4}}
			r, _ := start(t, w, newDomains(w, l, domainNames(2), func(o *Options) { o.Interval, o.MaxAge = 5*time.Minute, max(cycle, 5*time.Minute)+tc.later }), 5*time.Minute)
			time.Sleep(3 * time.Hour)
			synctest.Wait()
			notes := strings.Join(r.Status().Page.Notes, "\n")
			seconds, err := strconv.ParseFloat(collectortest.Value(w.Exposed(t), `mde_watched_domains_interval_seconds{tenant="contoso"}`), 64)
			if err != nil {
				t.Fatal(err)
			}
			cycle = time.Duration(seconds * float64(time.Second))
			if !strings.Contains(notes, fmt.Sprintf("2 domains at one call per %s take %s instead of 5m0s", cycle/2, cycle)) || strings.Contains(notes, "raise max_age") != tc.warns {
				t.Errorf("with a max_age %s longer than lookups of %s take: %s", tc.later, cycle, notes)
			}
			if n := strings.Count(w.Log.String(), "Call quota too small"); n != 1 {
				t.Errorf("logged %d times", n)
			}
		})
	}
}
