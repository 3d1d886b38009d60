package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http/httptrace"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// arrivals counts calls when they arrive, as the server does.
type arrivals struct {
	mu    sync.Mutex
	times []time.Time
}

func (a *arrivals) add(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.times = append(a.times, at)
}

// worst returns the maximum number of calls in any span of the given length.
func (a *arrivals) worst(span time.Duration) int {
	slices.SortFunc(a.times, time.Time.Compare)
	worst, first := 0, 0
	for i, at := range a.times {
		for at.Sub(a.times[first]) >= span {
			first++
		}
		worst = max(worst, i-first+1)
	}
	return worst
}

// memoryLedger is a Ledger in memory.
type memoryLedger struct {
	mu    sync.Mutex
	spent []time.Time
}

func (l *memoryLedger) Spent(API) []time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.spent)
}

func (l *memoryLedger) Spend(_ API, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spent = append(l.spent, at)
}

// maxTransit is the maximum time from sending a call to its arrival.
const maxTransit = 5 * time.Second

// TestServiceNeverCountsMoreThanLimits uses gates with random patterns of callers, bursts,
// pauses, slow or failed connections, requests that are sent twice, cancelled callers, 429s
// and restarts. It counts the calls at the server, where they arrive up to maxTransit later.
func TestServiceNeverCountsMoreThanLimits(t *testing.T) {
	patterns := uint64(1500)
	if testing.Short() {
		patterns = 300
	}
	for seed := range patterns {
		synctest.Test(t, func(t *testing.T) { randomPattern(t, seed) })
		if t.Failed() {
			t.Fatalf("pattern %d", seed)
		}
	}
}

func randomPattern(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	perMinute := 1 + random.IntN(12)
	limits := Limits{CallsPerMinute: perMinute, CallsPerHour: perMinute + random.IntN(60)}
	var ledger memoryLedger
	var api arrivals
	runs := 1 + random.IntN(3)
	for run := range runs { // Runs of the program, one after another.
		// The ledger has the time when a call was about to be written. Only the
		// running program knows when it was.
		writing := time.Nanosecond
		if run == runs-1 {
			writing = 20 * time.Second
		}
		g := newGate(Machines, &ledger).join(limits, noObserver{})
		var calls sync.WaitGroup
		patience := time.Duration(1+random.IntN(7200)) * time.Second
		for range random.IntN(60) {
			if random.IntN(3) == 0 {
				time.Sleep(time.Duration(random.Int64N(int64(2 * time.Minute))))
			}
			own := rand.New(rand.NewPCG(seed, random.Uint64()))
			calls.Go(func() { randomCall(t, g, own, &api, patience, writing) })
		}
		calls.Wait()
		// A new process takes a moment to start. Calls in transit arrive meanwhile.
		time.Sleep(maxTransit)
	}
	if got := api.worst(time.Minute); got > limits.CallsPerMinute {
		t.Errorf("the server counts %d calls in a minute, the limit is %d", got, limits.CallsPerMinute)
	}
	if got := api.worst(time.Hour); got > limits.CallsPerHour {
		t.Errorf("the server counts %d calls in an hour, the limit is %d", got, limits.CallsPerHour)
	}
}

func randomCall(t *testing.T, g *share, random *rand.Rand, api *arrivals, patience, writing time.Duration) {
	ctx := t.Context()
	if random.IntN(4) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(random.Int64N(int64(patience))))
		defer cancel()
	}
	slot, err := g.take(ctx)
	if err != nil {
		return
	}
	trace := slot.trace(context.WithoutCancel(ctx))
	if random.IntN(5) == 0 {
		time.Sleep(time.Duration(random.Int64N(int64(40 * time.Second)))) // A slow connection.
	}
	sends := 1
	switch random.IntN(12) {
	case 0:
		slot.end(false) // No connection.
		return
	case 1:
		sends = 2 // An idle connection that was closed.
	}
	for range sends {
		trace.GotConn(httptrace.GotConnInfo{})
		left := time.Now()
		time.Sleep(time.Duration(random.Int64N(int64(writing))))
		trace.WroteRequest(httptrace.WroteRequestInfo{})
		on := time.Since(left) + maxTransit
		api.add(left.Add(time.Duration(random.Int64N(int64(on) + 1))))
	}
	time.Sleep(time.Duration(random.Int64N(int64(10 * time.Second))))
	slot.end(true)
	if random.IntN(20) == 0 {
		g.backOff(time.Duration(random.Int64N(int64(5 * time.Minute))))
	}
}

func TestFullLoadUsesNearlyWholeQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(DomainMachines, nil).join(Limits{100, 1500}, noObserver{})
		const hours = 10
		start, calls := time.Now(), 0
		var api arrivals
		for time.Since(start) < hours*time.Hour {
			mustSend(t, g)
			api.add(time.Now())
			calls++
		}
		if want := int(0.995 * 1500 * hours); calls < want {
			t.Errorf("%d calls in %d hours, want at least %d", calls, hours, want)
		}
		if got := api.worst(time.Hour); got != 1500 {
			t.Errorf("the worst hour has %d calls, want 1500", got)
		}
		if got := api.worst(time.Minute); got != 100 {
			t.Errorf("the worst minute has %d calls, want 100", got)
		}
	})
}

// mustSend makes a call that is written immediately.
func mustSend(t *testing.T, g *share) {
	t.Helper()
	slot, err := g.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slot.end(true)
}

func TestGateIsFIFO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Machines, nil).join(Limits{1, 1000}, noObserver{})
		var order []int
		var mu sync.Mutex
		var callers sync.WaitGroup
		for i := range 20 {
			callers.Go(func() {
				mustSend(t, g)
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			})
			synctest.Wait()
		}
		callers.Wait()
		if !slices.IsSorted(order) {
			t.Errorf("callers passed in the order %v", order)
		}
	})
}

func TestCancelledCallerUsesNoQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Machines, nil).join(Limits{1, 1000}, noObserver{})
		mustSend(t, g)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		_, err := g.take(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || ReasonOf(err) != ReasonTimeout {
			t.Errorf("error %v, want that of the context", err)
		}
		mustSend(t, g)
		if got, want := time.Since(start), time.Minute+maxTransit; got != want {
			t.Errorf("the next call was sent after %v, want %v", got, want)
		}
	})
}

func TestSlowRequestDelaysDependentCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Machines, nil).join(Limits{1, 1000}, noObserver{})
		start := time.Now()
		slow, err := g.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(90*time.Second, func() { slow.end(true) })
		mustSend(t, g)
		if got, want := time.Since(start), 90*time.Second+time.Minute+maxTransit; got != want {
			t.Errorf("the next call was sent after %v, want %v", got, want)
		}
	})
}

func TestUnsentRequestFreesItsSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Machines, nil).join(Limits{1, 1000}, noObserver{})
		start := time.Now()
		unlucky, err := g.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(3*time.Second, func() { unlucky.end(false) })
		mustSend(t, g)
		if got, want := time.Since(start), 3*time.Second; got != want {
			t.Errorf("the next call was sent after %v, want %v", got, want)
		}
	})
}

func TestBackOffDelaysEveryCallForRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Machines, nil).join(Limits{100, 1000}, noObserver{})
		start := time.Now()
		g.backOff(42 * time.Second)
		var callers sync.WaitGroup
		for range 3 {
			callers.Go(func() {
				mustSend(t, g)
				if got, want := time.Since(start), 42*time.Second; got != want {
					t.Errorf("a call was sent after %v, want %v", got, want)
				}
			})
		}
		callers.Wait()
	})
}

func TestBackOffWithoutRetryAfterIncreases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Machines, nil).join(Limits{100, 1000}, noObserver{})
		last := time.Duration(0)
		for range 5 {
			pause := g.backOff(0)
			if pause <= last {
				t.Errorf("a pause of %v after one of %v", pause, last)
			}
			last = pause
		}
		g.resetBackoff()
		if pause := g.backOff(0); pause > 2*time.Second {
			t.Errorf("a pause of %v after the service accepted a call", pause)
		}
	})
}

func TestPausePastRetryDeadlineFailsImmediately(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Machines, nil).join(Limits{100, 1000}, noObserver{})
		g.backOff(time.Hour)
		start := time.Now()
		_, err := g.take(WithRetryDeadline(t.Context(), start.Add(15*time.Minute)))
		if ReasonOf(err) != ReasonThrottled {
			t.Errorf("error %v, want one of reason throttled", err)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v, want no wait", waited)
		}
	})
}

func TestNewGateCountsCallsOfLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ledger memoryLedger
		start := time.Now()
		for i := range 3 {
			ledger.Spend(Machines, start.Add(time.Duration(i-50)*time.Minute))
		}
		ledger.Spend(Machines, start.Add(time.Hour)) // The clock was set back since.
		g := newGate(Machines, &ledger).join(Limits{2, 4}, noObserver{})
		want := QuotaUse{MinuteCalls: 1, HourCalls: 4, Limits: Limits{2, 4}, Known: true}
		if got := g.use(); got != want {
			t.Errorf("use %+v, want %+v", got, want)
		}
		mustSend(t, g)
		if got, want := time.Since(start), 10*time.Minute+maxTransit; got != want {
			t.Errorf("the first call was sent after %v, want %v", got, want)
		}
		if got := len(ledger.Spent(Machines)); got != 5 {
			t.Errorf("the ledger has %d calls, want 5", got)
		}
	})
}

func TestQuotaUseDropsExpiredCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := Limits{100, 1500}
		g := newGate(Machines, nil).join(limits, noObserver{})
		mustSend(t, g)
		check := func(want QuotaUse) {
			t.Helper()
			if got := g.use(); got != want {
				t.Errorf("use %+v, want %+v", got, want)
			}
		}
		check(QuotaUse{1, 1, limits, false, 1, 0})
		time.Sleep(time.Minute)
		check(QuotaUse{0, 1, limits, false, 1, 0})
		time.Sleep(time.Hour)
		check(QuotaUse{0, 0, limits, true, 0, 0})
	})
}

func TestDeviceAVInfoHasItsOwnLimits(t *testing.T) {
	for _, test := range []struct {
		name  string
		spend Limits
		want  Limits
	}{
		{"a larger share is reduced to the documented limits", Limits{100, 1500}, Limits{30, 1000}},
		{"a smaller share applies", Limits{10, 100}, Limits{10, 100}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.spend.of(DeviceAVInfo); got != test.want {
				t.Errorf("limits %+v, want %+v", got, test.want)
			}
			if got := test.spend.of(Machines); got != test.spend {
				t.Errorf("limits of machines %+v, want %+v", got, test.spend)
			}
		})
	}
}

func TestCallWaitsForPauseUpToRetryDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Machines, nil).join(Limits{100, 1000}, noObserver{})
		g.backOff(time.Hour)
		if _, err := g.take(WithRetryDeadline(t.Context(), time.Now().Add(time.Hour))); err != nil {
			t.Error(err)
		}
	})
}

func TestLastHourIsKnownAfterAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Machines, nil).join(Limits{100, 1500}, noObserver{})
		time.Sleep(time.Hour - time.Nanosecond)
		if g.use().Known {
			t.Error("known before the hour has passed")
		}
		time.Sleep(time.Nanosecond)
		if !g.use().Known {
			t.Error("unknown after an hour")
		}
	})
}
