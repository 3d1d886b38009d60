package domains

import (
	"fmt"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

// begun is when the domains of a testSchedule were last looked up.
var begun = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// testSchedule is the schedule of a list whose lookups are ten seconds apart.
type testSchedule struct {
	*domainSchedule
	list *watchList
}

func newTestSchedule(domains int, lookedUp bool) testSchedule {
	list := &watchList{ListConfig: listOf("", time.Duration(domains)*10*time.Second)}
	s := testSchedule{&domainSchedule{lists: []*watchList{list}, pacer: client.NewPacer((&quickDomains{}).Quota, client.DomainMachines)}, list}
	for range domains {
		d := &watchedDomain{on: &placement{list: list}, lookups: &lookups{}}
		if s.add(d); lookedUp {
			s.restore(d, begun)
		}
	}
	return s
}

// lookUp looks up the domains that are due and returns their number and when the next one
// is due.
func (s testSchedule) lookUp(now time.Time) (n int, next time.Time) {
	for {
		d, at := s.next(now, 0, wantedDomains{fresh: true, failed: true})
		if at.After(now) {
			return n, at
		}
		s.start(d, now)
		s.succeeded(d)
		n++
	}
}

// slowPacer returns a Pacer of one call every two minutes.
func slowPacer() *client.Pacer {
	return client.NewPacer(func(client.API) client.QuotaUse {
		return client.QuotaUse{Limits: client.Limits{CallsPerMinute: 1, CallsPerHour: 30}, Known: true}
	}, client.DomainMachines)
}

func TestLateListCatchesUpOneMinute(t *testing.T) {
	for late, want := range map[time.Duration]struct {
		lookups int
		next    time.Duration
	}{
		9 * time.Second:  {0, 10 * time.Second},
		10 * time.Second: {1, 20 * time.Second},
		13 * time.Second: {1, 20 * time.Second},
		35 * time.Second: {3, 40 * time.Second},
		5 * time.Minute:  {7, 310 * time.Second},
	} {
		n, next := newTestSchedule(60, true).lookUp(begun.Add(late))
		if n != want.lookups || !next.Equal(begun.Add(want.next)) {
			t.Errorf("%s after the last lookup: %d lookups, the next %s after it, want %d and %s", late, n, next.Sub(begun), want.lookups, want.next)
		}
	}
}

func TestInitialLookupsAreNotCaughtUp(t *testing.T) {
	if n, next := newTestSchedule(3, false).lookUp(begun); n != 3 || !next.Equal(begun.Add(10*time.Second)) {
		t.Errorf("%d lookups, the next %s after them", n, next.Sub(begun))
	}
}

func TestMovedDomainWaitsForATurnOfItsNewList(t *testing.T) {
	s := newTestSchedule(1, true)
	long := &watchList{ListConfig: listOf("", time.Hour), index: 1}
	s.lists = append(s.lists, long)
	d, _ := s.list.turns.waiting.first()
	s.move(d, &placement{list: long})
	if n, next := s.lookUp(begun.Add(time.Minute)); n != 0 || !next.Equal(begun.Add(time.Hour)) {
		t.Errorf("%d lookups, the next after %s", n, next.Sub(begun))
	}
}

func TestOldestLookupIsNextEvenIfItFailed(t *testing.T) {
	for _, failedFirst := range []bool{true, false} {
		t.Run(fmt.Sprint(failedFirst), func(t *testing.T) {
			s := newTestSchedule(2, false)
			s.pacer = slowPacer()
			var failed *watchedDomain
			for i := range 2 {
				now := begun.Add(time.Duration(i) * time.Second)
				d, _ := s.next(now, 0, wantedDomains{fresh: true})
				if s.start(d, now); (i == 0) == failedFirst {
					s.failedAt(d, now)
					failed = d
				} else {
					s.succeeded(d)
				}
			}
			if d, _ := s.next(begun.Add(time.Hour), 0, wantedDomains{fresh: true, failed: true}); (d == failed) != failedFirst {
				t.Errorf("next is the failed domain: %v", d == failed)
			}
		})
	}
}

func TestFailedDomainsPauseAtATurnOfTheirList(t *testing.T) {
	s := newTestSchedule(8, true)
	for range 8 {
		d, _ := s.list.turns.waiting.first()
		s.start(d, begun)
		s.failedAt(d, begun)
	}
	d, at := s.next(begun, 0, wantedDomains{fresh: true, failed: true})
	if at.Before(begun.Add(45*time.Second)) || at.After(begun.Add(75*time.Second)) || !at.Equal(d.retry) {
		t.Errorf("retried after %s, want a minute", at.Sub(begun))
	}
}

func TestFailedDomainIsRetriedAtThePaceOfTheQuota(t *testing.T) {
	s := newTestSchedule(1, true)
	s.pacer = slowPacer()
	d, _ := s.list.turns.waiting.first()
	s.start(d, begun)
	s.failedAt(d, begun)
	if _, at := s.next(begun, 0, wantedDomains{failed: true}); at.Before(begun.Add(2 * time.Minute)) {
		t.Errorf("retried after %s", at.Sub(begun))
	}
}

func TestOnceLooksUpNewDomainsBeforeAllOthers(t *testing.T) {
	s := newTestSchedule(1, true)
	s.once = true
	long := &watchList{ListConfig: listOf("", time.Hour), index: 1}
	s.lists = append(s.lists, long)
	fresh := &watchedDomain{on: &placement{list: long}, lookups: &lookups{}}
	s.add(fresh)
	if d, _ := s.next(begun.Add(time.Hour), 0, wantedDomains{fresh: true}); d != fresh {
		t.Error("an overdue domain of the shorter list is next")
	}
}
