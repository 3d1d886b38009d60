package client

import (
	"crypto/sha256"
	"errors"
	"sync"
	"time"
)

// A throttle holds token requests of an app registration back, of every audience,
// for as long as its sign-in host asks. A refresh that may not wait so long fails, and
// the next one, however soon, does not ask before the time.
type throttle struct {
	mu    sync.Mutex
	pause pause
	since time.Time // The first refusal since the host last gave a token.
}

// deadline returns the time past which no token request that begins now waits:
// all of them together wait for maxSignInWait. After that each makes one attempt,
// so that refreshes fail soon, with the reason.
func (h *throttle) deadline() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.since.IsZero() {
		return time.Now().Add(maxSignInWait)
	}
	return h.since.Add(maxSignInWait)
}

// check fails while the sign-in host does not want to be asked.
func (h *throttle) check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return pauseError(Token, "the sign-in host", h.pause.left())
}

// pauseError is the error of a call that a pause does not let through, nil without one.
func pauseError(api API, who string, left time.Duration) error {
	if left <= 0 {
		return nil
	}
	return &Error{API: api, Reason: ReasonThrottled, RetryAfter: left,
		Message: who + " asked for a pause that lasts another " + left.Round(time.Second).String()}
}

// isIdle reports whether the sign-in host may be asked.
func (h *throttle) isIdle() bool { return h.check() == nil }

// record looks at how a request ended, nil where it succeeded. Where the host
// throttles without saying for how long, the rule does, and the error gets its pause.
func (h *throttle) record(err error, rule RetryRule) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, ok := errors.AsType[*Error](err)
	switch {
	case !ok:
		h.since = time.Time{}
		h.pause.succeeded()
		return
	case e.RetryAfter > 0, e.Reason == ReasonThrottled:
		e.RetryAfter = h.pause.extend(rule, e.RetryAfter)
	case e.Reason == ReasonAuth:
		h.since = time.Time{} // It answers.
		return
	default:
		return
	}
	if h.since.IsZero() {
		h.since = time.Now()
	}
}

// refusal remembers that the sign-in host did not accept a credential, so that it
// is not asked over and over. A changed credential is asked about at once.
type refusal struct {
	mu          sync.Mutex
	err         error
	fingerprint [sha256.Size]byte
	pause       pause
}

// recall returns the error of the refusal while this credential is not tried
// again, else nil.
func (r *refusal) recall(fingerprint [sha256.Size]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fingerprint == fingerprint && r.pause.left() > 0 {
		return r.err
	}
	return nil
}

// record looks at how a request ended, nil where it succeeded. A passing fault
// says nothing about the credential.
func (r *refusal) record(fingerprint [sha256.Size]byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.err, r.pause = nil, pause{}
		return
	case ReasonOf(err) != ReasonAuth:
		return
	case r.fingerprint != fingerprint:
		r.pause = pause{}
	}
	r.err, r.fingerprint = err, fingerprint
	r.pause.extend(credentialRetry, 0)
}
