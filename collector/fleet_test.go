package collector

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

func TestFollowingAFleetEndsWithNoCallUnderWay(t *testing.T) {
	f := newFleet(time.Hour)
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

// TestAScrapeShowsOneMoment scrapes while one fleet after the other is read: the
// domains are joined with the fleet that is shown, and the time is that fleet's.
func TestAScrapeShowsOneMoment(t *testing.T) {
	w := newWorld()
	var mu sync.Mutex
	var began []time.Time // Of the fleet of so many machines, at the latest.
	fake := &fakeStates{states: func(yield func(*client.SecurityState, error) bool) {
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
	states := w.states(fake)
	names := domainNames(300) // Joining them all takes a while.
	domains := w.domains(&quickDomains{machines: []client.Machine{{ID: id(1)}}}, names, func(o *WatchedDomainsOptions) { o.Fleet = states.Fleet() })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { w.refresher(domains, time.Hour).Run(ctx) })
	for value(w.exposed(t), `mde_watched_domain_machines{domain="`+names[299]+`",tenant="contoso"}`) != "1" {
		time.Sleep(time.Millisecond)
	}
	running.Go(func() { w.refresher(states, time.Millisecond).Run(ctx) })
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
		got := w.scraped(t)
		fleet, join := property(got, "mde_machines_attention"), property(got, "mde_watched_domain_machines_attention")
		n, _ := strconv.Atoi(value(got, `mde_machines{architecture="Amd64",os_build="19045",tenant="contoso"}`))
		seconds, _ := strconv.ParseFloat(value(got, `mde_refresh_last_success_timestamp_seconds{collector="security_states",tenant="contoso"}`), 64)
		success := value(got, `mde_refresh_success{collector="security_states",tenant="contoso"}`)
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
				t.Errorf("fleet %d with %s has a join with %q, the time %v (in time: %v) and success %q", n, fleet, join, at, inTime, success)
			}
		}
	}
	cancel()
	running.Wait()
	if len(fleets) < 10 {
		t.Errorf("%d fleets were seen", len(fleets))
	}
}
