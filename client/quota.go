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

// A gate delays the calls to one API so that they keep its limits. Calls pass in the order
// of arrival. The clients of one quota share the gate.
//
// It is an exact sliding window, not a token bucket. If n calls are allowed in a span, a
// call is sent only when the n-th call before it is older than the span plus quotaGuard.
// The service counts a call when it arrives. If no call takes longer to arrive than the
// guard, the service never counts more calls in a span than are allowed.
//
// A call counts as sent now from the moment it passes the gate until its request is
// written. A slow connection thus cannot move it into a span where it was not counted.
type gate struct {
	api    API
	ledger Ledger
	start  time.Time // Times in the gate are relative to it, by the monotonic clock.

	turn    chan struct{} // A semaphore for the call that is next to pass.
	changed chan struct{} // Wakes that call when the fields below change.

	mu      sync.Mutex
	shares  map[*share]bool
	limits  Limits     // The smallest limits of the shares.
	sent    []sentCall // The calls of the last hour, oldest first.
	pending int        // Calls that passed the gate and are not written yet.
	pause   pause      // How long the service asked to wait.
}

// A share is one client's membership in a gate. Its limits apply to the gate until leave,
// after which calls in progress may still end.
type share struct {
	*gate
	limits   Limits
	observer Observer
}

// A sentCall is the time at which a request was written, and the share that sent it. by is
// nil for a call from the ledger.
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
			// A call in the future was made before the clock was set back. Its time is
			// unknown, so it counts as made now.
			g.sent = append(g.sent, sentCall{at: min(at.Sub(g.start), 0)})
		}
		slices.SortFunc(g.sent, func(a, b sentCall) int { return cmp.Compare(a.at, b.at) })
		g.dropExpired(0)
	}
	return g
}

// join returns a share for one more client. The gate immediately applies its limits if
// they are smaller than those of the other shares.
func (g *gate) join(limits Limits, observer Observer) *share {
	s := &share{gate: g, limits: limits.of(g.api), observer: observer}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shares[s] = true
	g.setLimits()
	return s
}

// leave removes the share from the gate.
func (s *share) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.shares, s)
	s.setLimits()
}

// setLimits sets the limits to the smallest ones of all shares. If there is no share, the
// last limits remain, for calls in progress. The caller holds g.mu.
func (g *gate) setLimits() {
	for s := range g.shares {
		g.limits = s.limits
		break
	}
	for s := range g.shares {
		g.limits = g.limits.smaller(s.limits)
	}
	g.wake()
}

// take waits until a call may be sent. The caller must end the slot.
func (s *share) take(ctx context.Context) (*slot, error) {
	g := s.gate
	entered := time.Now()
	waited := false
	defer func() {
		if waited {
			s.observer.QuotaWait(g.api, time.Since(entered))
		}
	}()
	if err := g.checkDeadline(ctx); err != nil {
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
		wait, ok := g.tryTake()
		if ok {
			return &slot{share: s, pending: true}, nil
		}
		if err := g.checkDeadline(ctx); err != nil {
			return nil, err
		}
		waited = true
		if err := g.sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// tryTake takes a slot if one is free now. Otherwise it returns the time until the next
// one is free, or zero if that depends on a call that is not written yet.
func (g *gate) tryTake() (wait time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	g.dropExpired(now)
	at, known := g.nextSlot()
	at = max(at, now+g.pause.remaining())
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

// nextSlot returns when both windows allow one more call. known is false if that depends
// on a call that is not written yet.
func (g *gate) nextSlot() (at time.Duration, known bool) {
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

// sleep waits for the given time, or without limit if it is zero. It returns early when
// the gate changes.
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

// backOff closes the gate after a 429 or a 5xx with Retry-After. A zero retryAfter means
// increasing pauses. It returns how long the gate stays closed.
func (g *gate) backOff(retryAfter time.Duration) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.wake()
	return g.pause.extend(callRetry, retryAfter)
}

// resetBackoff makes the next pause the shortest one again, after a response that does not
// throttle.
func (g *gate) resetBackoff() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pause.resetBackoff()
}

// checkDeadline returns an error if the gate stays closed past the caller's deadline.
func (g *gate) checkDeadline(ctx context.Context) error {
	deadline, ok := retryDeadline(ctx)
	if !ok {
		return nil
	}
	g.mu.Lock()
	left := g.pause.remaining()
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
	var last *share // Avoids lookups: most calls have the same share as the previous one.
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

// isIdle reports whether the gate has no state that affects a later call.
func (g *gate) isIdle() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	g.dropExpired(now)
	return len(g.sent) == 0 && g.pending == 0 && g.pause.remaining() == 0
}

func (g *gate) now() time.Duration { return time.Since(g.start) }

// before returns the number of calls sent at or before a time.
func (g *gate) before(at time.Duration) int {
	return sort.Search(len(g.sent), func(i int) bool { return g.sent[i].at > at })
}

// dropExpired removes the calls that are older than every window.
func (g *gate) dropExpired(now time.Duration) {
	g.sent = slices.Delete(g.sent, 0, g.before(now-time.Hour-quotaGuard))
}

func (g *gate) wake() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// A slot is the permission to make one call. The trace of the request reports when it is
// sent.
type slot struct {
	share   *share
	pending bool // Not written yet. Guarded by the gate's mutex.
	spent   bool // In the ledger. Guarded by the gate's mutex.
}

// trace returns a trace that counts the request when it is sent.
func (s *slot) trace(ctx context.Context) *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) {
			if s.isSpent() {
				s.takeAnother(ctx)
			}
			s.spend()
		},
		WroteRequest: func(httptrace.WroteRequestInfo) { s.finish(true) },
	}
}

// end releases the slot when the transport has finished the request. A request that got no
// connection was not sent and does not count.
func (s *slot) end(responded bool) {
	if responded && !s.isSpent() {
		s.spend() // The transport does not support traces.
	}
	s.finish(s.isSpent())
}

// takeAnother takes another slot for a request that net/http sends again because an idle
// connection was closed.
func (s *slot) takeAnother(ctx context.Context) {
	s.finish(true)
	if another, err := s.share.take(ctx); err == nil {
		s.share.mu.Lock()
		s.pending, another.pending = true, false
		s.share.mu.Unlock()
	}
}

// spend records the call in the ledger before it is sent.
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

// finish releases the slot. Further calls do nothing. If the call was sent, it counts from
// now on.
func (s *slot) finish(sent bool) {
	g := s.share.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if !s.pending {
		return
	}
	s.pending = false
	g.pending--
	if sent {
		g.sent = append(g.sent, sentCall{g.now(), s.share})
	}
	g.wake()
}
