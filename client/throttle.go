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
	refusals int // In a row that did not say how long to wait.
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
		h.refusals = 0
		return
	case e.RetryAfter > 0:
	case e.Reason == ReasonThrottled:
		h.refusals++
		e.RetryAfter = backoff(h.refusals)
	default:
		return
	}
	if until := now.Add(e.RetryAfter); until.After(h.until) {
		h.until = until
	}
}
