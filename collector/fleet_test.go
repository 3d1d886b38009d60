package collector

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestFollowingAFleetEndsWithNoCallUnderWay(t *testing.T) {
	f := NewFleet(time.Hour)
	calls, begin, end := 0, make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.follow(ctx, func() {
			calls++
			begin <- struct{}{}
			<-end
		})
	}()
	<-begin // For what was set before.
	end <- struct{}{}
	set := make(chan struct{})
	go func() { defer close(set); f.set(&shownFleet{}) }()
	<-begin
	cancel()
	select {
	case <-ended:
		t.Error("the end does not wait for the call under way")
	case <-time.After(20 * time.Millisecond):
	}
	end <- struct{}{}
	<-ended
	<-set
	f.set(&shownFleet{})
	if calls != 2 {
		t.Errorf("%d calls, want one at the beginning and one for the first set", calls)
	}
}

// TestADomainThatLeftTheListStaysAway stops a run while a new fleet is about to
// be joined, and waits for the lock as long as it likes.
func TestADomainThatLeftTheListStaysAway(t *testing.T) {
	w := newWorld()
	far := newFarEnd()
	far.answer = answers(map[string]string{"stays.example": page(row(1, "")), "gone.example": page(row(1, ""))})
	c := far.client(t, emptyLedger{}, w.tenant)
	states := w.states(&fakeStates{states: rowsOf(nil, state(1, "19045", "Amd64", "AntivirusOff"))})
	run := func(d *WatchedDomains) (stop func() <-chan struct{}) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); w.refresher(d, time.Hour).Run(ctx) }()
		return func() <-chan struct{} { cancel(); return done }
	}
	const gone = `mde_watched_domain_machines{domain="gone.example",tenant="contoso"}`
	old := w.domains(c, []string{"stays.example", "gone.example"}, func(o *WatchedDomainsOptions) { o.Fleet = states.Fleet() })
	stop := run(old)
	for value(w.exposed(t), gone) == "" {
		time.Sleep(time.Millisecond)
	}

	old.mu.Lock()
	refreshed := make(chan struct{})
	go func() { defer close(refreshed); _ = w.refresh(t.Context(), states) }()
	time.Sleep(20 * time.Millisecond)
	done := stop()
	next := w.domains(c, []string{"stays.example"}, func(o *WatchedDomainsOptions) { o.Fleet = states.Fleet() })
	select {
	case <-done:
		next.Start(t.Context(), w.publisher(next))
		old.mu.Unlock()
	case <-time.After(50 * time.Millisecond):
		old.mu.Unlock()
		<-done
		next.Start(t.Context(), w.publisher(next))
	}
	<-refreshed
	if got := w.exposed(t); strings.Contains(got, "gone.example") {
		t.Errorf("after the run has ended:\n%s", got)
	}
}
