package client

import (
	"errors"
	"sync"
	"time"
)

// A throttle holds token requests of an app registration back, of every audience,
// for as long as its sign-in host asks. A refresh that may not wait so long fails, and
// the next one, however soon, does not ask before the time.
type throttle struct {
	mu       sync.Mutex
	until    time.Time
	refusals int       // In a row that did not say how long to wait.
	since    time.Time // The first refusal since the host last gave a token.
}

// maxSignInWait is how long token requests wait for a sign-in host that asks for
// pauses, all of them together: after that each makes one attempt, so that refreshes
// fail soon, with the reason.
const maxSignInWait = 5 * time.Minute

// deadline returns the time past which no token request that begins now waits.
func (h *throttle) deadline(now time.Time) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.since.IsZero() {
		return now.Add(maxSignInWait)
	}
	return h.since.Add(maxSignInWait)
}

// check fails while the sign-in host does not want to be asked.
func (h *throttle) check(now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	pause := h.until.Sub(now)
	if pause <= 0 {
		return nil
	}
	return &Error{API: Token, Reason: ReasonThrottled, RetryAfter: pause,
		Message: "the sign-in host asked for a pause that lasts another " + pause.Round(time.Second).String()}
}

// isIdle reports whether the sign-in host may be asked.
func (h *throttle) isIdle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().After(h.until)
}

// note looks at how a request ended, nil where it ended well. Where the host
// refused it without saying for how long, the pauses grow, and the error tells
// which one it is.
func (h *throttle) note(err error, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, ok := errors.AsType[*Error](err)
	switch {
	case !ok:
		h.refusals, h.since = 0, time.Time{}
		return
	case e.RetryAfter > 0:
	case e.Reason == ReasonThrottled:
		h.refusals++
		e.RetryAfter = backoff(h.refusals)
	case e.Reason == ReasonAuth:
		h.since = time.Time{} // It answers.
		return
	default:
		return
	}
	if h.since.IsZero() {
		h.since = now
	}
	if until := now.Add(e.RetryAfter); until.After(h.until) {
		h.until = until
	}
}
