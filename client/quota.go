package client

import (
	"cmp"
	"context"
	"net/http/httptrace"
	"slices"
	"sort"
	"sync"
	"time"
)

// A gate lets the calls to one API leave no faster than its limits allow, in the
// order in which they came. Clients of one quota share it.
//
// It is an exact sliding window, not a bucket: with n calls allowed in a span, a
// call leaves only when the n-th call before it left longer than the span and
// quotaGuard ago. The far end counts a call when it arrives: as long as no call
// takes longer on its way than the guard, it counts no more calls in a window than
// left within it. A call counts as leaving now from the moment it passed the gate
// until its request is written, so that a connection that is slow to open cannot
// move it into a window where it was not counted.
type gate struct {
	api    API
	ledger Ledger
	start  time.Time // Times in the gate are durations since then: a clock that is set changes nothing.

	turn    chan struct{} // Held by the call that is next to leave.
	changed chan struct{} // Wakes the call that is next when the fields below change.

	mu      sync.Mutex
	shares  map[*share]bool
	limits  Limits     // The smallest of the shares.
	sent    []sentCall // Of the last hour, oldest first.
	pending int        // Calls that passed the gate and are not written yet.
	pause   pause      // The service asked not to be called.
}

// A share is the part of one client in a gate. Its limits count until it leaves;
// calls under way then may still end.
type share struct {
	*gate
	limits   Limits
	observer Observer
}

// A sentCall is a call that left: when its request was written, and by whom, which is
// nil for one that the ledger knows.
type sentCall struct {
	at time.Duration
	by *share
}

func newGate(api API, ledger Ledger) *gate {
	g := &gate{
		api:     api,
		ledger:  ledger,
		start:   time.Now(),
		turn:    make(chan struct{}, 1),
		changed: make(chan struct{}, 1),
		shares:  make(map[*share]bool),
	}
	if ledger != nil {
		for _, at := range ledger.Spent(api) {
			// A call from the future was made before the clock was set back: it
			// counts as made now, since nobody knows when it was.
			g.sent = append(g.sent, sentCall{at: min(at.Sub(g.start), 0)})
		}
		slices.SortFunc(g.sent, func(a, b sentCall) int { return cmp.Compare(a.at, b.at) })
		g.forget(0)
	}
	return g
}

// join gives one more client a share. Its limits hold at once, for every call
// that is still to leave, where they are smaller than those of the others.
func (g *gate) join(limits Limits, observer Observer) *share {
	s := &share{gate: g, limits: limits.of(g.api), observer: observer}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shares[s] = true
	g.setLimits()
	return s
}

// leave gives the share back.
func (s *share) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.shares, s)
	s.setLimits()
}

// setLimits finds the smallest limits of all shares. Without a share the last
// ones hold, for calls that are under way. The mutex is held.
func (g *gate) setLimits() {
	for s := range g.shares {
		g.limits = s.limits
		break
	}
	for s := range g.shares {
		g.limits = g.limits.and(s.limits)
	}
	g.wake()
}

// take waits until a call may leave. The caller ends the slot it gets.
func (s *share) take(ctx context.Context) (*slot, error) {
	g := s.gate
	entered := time.Now()
	waited := false
	defer func() {
		if waited {
			s.observer.QuotaWait(g.api, time.Since(entered))
		}
	}()
	if err := g.checkPause(ctx); err != nil {
		return nil, err
	}
	select {
	case g.turn <- struct{}{}:
	default:
		waited = true
		select {
		case g.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, g.interrupted(ctx)
		}
	}
	defer func() { <-g.turn }()
	for {
		if ctx.Err() != nil {
			return nil, g.interrupted(ctx)
		}
		wait, ok := g.pass()
		if ok {
			return &slot{share: s, pending: true}, nil
		}
		if err := g.checkPause(ctx); err != nil {
			return nil, err
		}
		waited = true
		if err := g.sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// pass takes a slot if one is free now. Otherwise it returns how long the next one
// is away, or zero when that hangs on a call that is not written yet.
func (g *gate) pass() (wait time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	g.forget(now)
	at, known := g.earliest()
	at = max(at, now+g.pause.left())
	switch {
	case known && at <= now:
		g.pending++
		return 0, true
	case known:
		return at - now, false
	default:
		return 0, false
	}
}

// earliest returns when both windows allow one more call.
func (g *gate) earliest() (at time.Duration, known bool) {
	for _, window := range []struct {
		calls int
		span  time.Duration
	}{
		{g.limits.CallsPerMinute, time.Minute},
		{g.limits.CallsPerHour, time.Hour},
	} {
		free := window.calls - g.pending
		if free <= 0 {
			return 0, false
		}
		if len(g.sent) >= free {
			at = max(at, g.sent[len(g.sent)-free].at+window.span+quotaGuard)
		}
	}
	return at, true
}

// sleep waits for the given time, or without end where it is zero, unless
// something changes before.
func (g *gate) sleep(ctx context.Context, wait time.Duration) error {
	var due <-chan time.Time
	if wait > 0 {
		due = time.After(wait)
	}
	select {
	case <-due:
	case <-g.changed:
	case <-ctx.Done():
		return g.interrupted(ctx)
	}
	return nil
}

// refused closes the gate because the service answered 429, or is unavailable and
// says for how long: for as long as it asked, or for growing pauses where it did
// not say. It returns for how long.
func (g *gate) refused(retryAfter time.Duration) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.wake()
	return g.pause.extend(callRetry, retryAfter)
}

// accepted makes the next pause short again: the service answered a call with
// something else than 429.
func (g *gate) accepted() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pause.succeeded()
}

// checkPause fails where the service asked to wait longer than the caller may.
func (g *gate) checkPause(ctx context.Context) error {
	deadline, ok := retryDeadline(ctx)
	if !ok {
		return nil
	}
	g.mu.Lock()
	left := g.pause.left()
	g.mu.Unlock()
	if left <= time.Until(deadline) {
		return nil
	}
	return pauseError(g.api, "the service", left)
}

func (g *gate) interrupted(ctx context.Context) error {
	return interrupted(ctx, g.api, "while waiting for quota")
}

func (s *share) use() QuotaUse {
	g := s.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	use := QuotaUse{MinuteCalls: g.pending, HourCalls: g.pending, Limits: g.limits, Known: g.ledger != nil || now >= time.Hour}
	var clients []*share
	var last *share // Most calls are of the same client as the one before.
	joined := false
	for _, call := range g.sent[g.before(now-time.Hour):] {
		use.HourCalls++
		if call.by != last {
			if last, joined = call.by, g.shares[call.by]; joined && !slices.Contains(clients, last) {
				clients = append(clients, last)
			}
		}
		if joined && call.by != s {
			use.OthersHourCalls++
		}
	}
	use.MinuteCalls += len(g.sent) - g.before(now-time.Minute)
	use.Clients = len(clients)
	return use
}

// isIdle reports whether nothing the gate knows matters to a later call.
func (g *gate) isIdle() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	g.forget(now)
	return len(g.sent) == 0 && g.pending == 0 && g.pause.left() == 0
}

func (g *gate) now() time.Duration { return time.Since(g.start) }

// before returns how many of the calls were written at a time or before.
func (g *gate) before(at time.Duration) int {
	return sort.Search(len(g.sent), func(i int) bool { return g.sent[i].at > at })
}

// forget drops the calls that no window reaches any more.
func (g *gate) forget(now time.Duration) {
	g.sent = slices.Delete(g.sent, 0, g.before(now-time.Hour-quotaGuard))
}

func (g *gate) wake() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// A slot is the right to make one call. The trace of the request reports when
// the request is really sent.
type slot struct {
	share   *share
	pending bool // Not written yet. Guarded by the gate's mutex.
	spent   bool // In the ledger. Guarded by the gate's mutex.
}

// trace follows a request through the transport.
func (s *slot) trace(ctx context.Context) *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) {
			if s.isSpent() {
				s.again(ctx)
			}
			s.spend()
		},
		WroteRequest: func(httptrace.WroteRequestInfo) { s.finish(true) },
	}
}

// end finishes the slot when the transport is done with the request. A request
// that found no connection has not left and costs nothing.
func (s *slot) end(answered bool) {
	if answered && !s.isSpent() {
		s.spend() // By a transport that does not report its connections.
	}
	s.finish(s.isSpent())
}

// again takes another slot for a request that net/http sends a second time
// because an idle connection turned out to be closed.
func (s *slot) again(ctx context.Context) {
	s.finish(true)
	if another, err := s.share.take(ctx); err == nil {
		s.share.mu.Lock()
		s.pending, another.pending = true, false
		s.share.mu.Unlock()
	}
}

// spend writes the call into the ledger before it leaves.
func (s *slot) spend() {
	s.share.mu.Lock()
	s.spent = true
	s.share.mu.Unlock()
	if s.share.ledger != nil {
		s.share.ledger.Spend(s.share.api, time.Now())
	}
}

func (s *slot) isSpent() bool {
	s.share.mu.Lock()
	defer s.share.mu.Unlock()
	return s.spent
}

// finish gives the slot back, once. A call that left counts at this moment.
func (s *slot) finish(left bool) {
	g := s.share.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if !s.pending {
		return
	}
	s.pending = false
	g.pending--
	if left {
		g.sent = append(g.sent, sentCall{g.now(), s.share})
	}
	g.wake()
}
