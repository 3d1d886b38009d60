package collector

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func (w *testEnv) publish(t *testing.T, p *Publisher, zones ...string) {
	t.Helper()
	p.Publish(Snapshot{Blocks: []*Block{testBlock(t, "contoso", time.Time{}, zones...)}})
}

func TestClosedPublisherDoesNothing(t *testing.T) {
	const a, b = `mde_test{tenant="contoso",zone="a"}`, `mde_test{tenant="contoso",zone="b"}`
	w := newTestEnv()
	p := w.exposition.Publisher("contoso", "one")
	p.begin(time.Minute)
	w.publish(t, p, "a")
	p.Close()
	w.publish(t, p, "a", "b")
	p.succeeded(nil, time.Second)
	if got := w.scrape(t); value(got, a) != "0" || value(got, b) != "" || strings.Contains(got, "mde_refresh_success") {
		t.Errorf("after Close, want what was published before:\n%s", got)
	}

	successor := w.exposition.Publisher("contoso", "one")
	successor.begin(time.Hour)
	w.publish(t, successor, "b")
	w.publish(t, p, "a")
	if got := w.scrape(t); value(got, a) != "" || value(got, b) == "" {
		t.Errorf("a closed publisher overwrote its successor:\n%s", got)
	}

	successor.Withdraw()
	w.publish(t, successor, "b")
	successor.failed(errors.New("no"), time.Second)
	if got := w.scrape(t); got != "" {
		t.Errorf("after Withdraw:\n%s", got)
	}
}

func TestSharedValuesAppearWithSnapshot(t *testing.T) {
	w := newTestEnv()
	fleet, domains := w.exposition.Publisher("contoso", "fleet"), w.exposition.Publisher("contoso", "domains")
	other := w.exposition.Publisher("fabrikam", "fleet")
	w.publish(t, fleet, "old fleet")
	w.publish(t, domains, "old join")
	before := w.scrape(t)
	fleet.Publish(Snapshot{
		Blocks: []*Block{testBlock(t, "contoso", time.Time{}, "new fleet")},
		Share: func() {
			w.publish(t, domains, "new join")
			if got := w.scrape(t); got != before {
				t.Errorf("during the change:\n%s\nwant:\n%s", got, before)
			}
			other.Publish(Snapshot{Blocks: []*Block{testBlock(t, "fabrikam", time.Time{}, "x")}})
			if got := w.scrape(t); !strings.Contains(got, "fabrikam") {
				t.Errorf("another tenant is delayed:\n%s", got)
			}
		},
	})
	if got := w.scrape(t); strings.Contains(got, "old") || !strings.Contains(got, "new fleet") || !strings.Contains(got, "new join") {
		t.Errorf("after the change:\n%s", got)
	}

	fleet.Close()
	fleet.Publish(Snapshot{Share: func() { t.Error("a closed publisher calls Share") }})
}

// outcomes is a Collector whose refreshes return the listed outcomes.
type outcomes struct {
	*scriptedCollector
	list []Outcome
}

func (o *outcomes) Refresh(ctx context.Context) (Outcome, error) {
	_, err := o.scriptedCollector.Refresh(ctx)
	return o.list[min(len(o.starts), len(o.list))-1], err
}

func TestPendingRefreshIsNeitherSuccessNorFailure(t *testing.T) {
	const labels = `{collector="security_states",tenant="contoso"}`
	synctest.Test(t, func(t *testing.T) {
		w := newTestEnv()
		c := &outcomes{
			&scriptedCollector{name: "security_states", refresh: func(_ context.Context, n int) error {
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
			got := w.scrape(t)
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
		w := newTestEnv()
		c := &outcomes{
			&scriptedCollector{name: "watched_domains", refresh: func(_ context.Context, n int) error {
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

func TestAgesUseWallClock(t *testing.T) {
	monotonic := func(t time.Time) bool { return strings.Contains(t.String(), " m=") }
	now := time.Now()
	if !monotonic(now) {
		t.Fatal("the clock has no monotonic reading")
	}
	w := newTestEnv()
	if b := testBlock(t, "contoso", now.Add(time.Hour), "a"); monotonic(b.Expires) {
		t.Errorf("a block expires at %s", b.Expires)
	}
	c := &scriptedCollector{name: "security_states", refresh: func(context.Context, int) error { return nil }}
	r := w.refresher(c, time.Hour)
	if err := r.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := r.Status(); monotonic(s.LastSuccess) || monotonic(s.Started) || monotonic(s.Finished) {
		t.Errorf("status %+v", s)
	}
}

func TestWithdrawAlsoWithdrawsSharedValues(t *testing.T) {
	w := newTestEnv()
	p, other := w.exposition.Publisher("contoso", "one"), w.exposition.Publisher("contoso", "two")
	p.OnWithdraw(func() { w.publish(t, other, "without") })
	w.publish(t, p, "a")
	w.publish(t, other, "joined")
	p.Close()
	if got := w.scrape(t); !strings.Contains(got, "joined") {
		t.Errorf("after Close:\n%s", got)
	}
	w.exposition.Together("contoso", func() {
		p.Withdraw()
		if got := w.scrape(t); !strings.Contains(got, `zone="a"`) || !strings.Contains(got, "joined") {
			t.Errorf("during the withdrawal:\n%s", got)
		}
	})
	if got := w.scrape(t); strings.Contains(got, `zone="a"`) || strings.Contains(got, "joined") || !strings.Contains(got, "without") {
		t.Errorf("after the withdrawal:\n%s", got)
	}
}

// follower is a Collector whose Start and Follow take a second to return.
type follower struct {
	*scriptedCollector
	order []string
}

func (f *follower) Start(ctx context.Context, p *Publisher) time.Time {
	time.Sleep(time.Second)
	f.order = append(f.order, "started")
	return f.scriptedCollector.Start(ctx, p)
}

func (f *follower) Follow(ctx context.Context) {
	f.order = append(f.order, "follows")
	<-ctx.Done()
	time.Sleep(time.Second)
	f.order = append(f.order, "followed")
}

func TestRunFollowsAfterStartAndWaitsForFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestEnv()
		f := &follower{scriptedCollector: &scriptedCollector{name: "one", refresh: func(context.Context, int) error { return nil }}}
		r := w.refresher(f, time.Hour)
		r.Go()
		r.Go() // Does nothing.
		time.Sleep(time.Minute)
		r.Stop()
		if got := strings.Join(f.order, " "); got != "started follows followed" {
			t.Errorf("order %q", got)
		}
	})
}
