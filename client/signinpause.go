package client

import (
	"crypto/sha256"
	"errors"
	"sync"
	"time"
)

// A throttle rejects the token requests of an app registration, for all audiences, while
// its sign-in host asks to wait.
type throttle struct {
	mu           sync.Mutex
	pause        pause
	failingSince time.Time // The first throttled request since the last success.
}

// deadline returns the time until which a token request that begins now may retry. All of
// them together wait for maxSignInWait. After that each makes one attempt, so that
// refreshes fail soon, with the reason.
func (h *throttle) deadline() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failingSince.IsZero() {
		return time.Now().Add(maxSignInWait)
	}
	return h.failingSince.Add(maxSignInWait)
}

// check returns an error while the sign-in host asks to wait.
func (h *throttle) check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return pauseError(Token, "the sign-in host", h.pause.remaining())
}

// pauseError returns the error of a call during a pause, or nil if the pause is over. who
// is the service that asked to wait.
func pauseError(api API, who string, left time.Duration) error {
	if left <= 0 {
		return nil
	}
	return &Error{API: api, Reason: ReasonThrottled, RetryAfter: left,
		Message: who + " asked to wait for another " + left.Round(time.Second).String()}
}

// isIdle reports whether no pause is in effect.
func (h *throttle) isIdle() bool { return h.check() == nil }

// record updates the pause by the result of a token request; nil is a success. If the host
// throttles without Retry-After, the pause follows the rule, and record sets it in the
// error.
func (h *throttle) record(err error, rule RetryRule) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, ok := errors.AsType[*Error](err)
	switch {
	case !ok:
		h.failingSince = time.Time{}
		h.pause.resetBackoff()
		return
	case e.RetryAfter > 0, e.Reason == ReasonThrottled:
		e.RetryAfter = h.pause.extend(rule, e.RetryAfter)
	case e.Reason == ReasonAuth:
		h.failingSince = time.Time{} // The host is not throttling.
		return
	default:
		return
	}
	if h.failingSince.IsZero() {
		h.failingSince = time.Now()
	}
}

// credentialRejection caches the error of a credential that the sign-in host rejected, so
// that it is not tried too often. A changed credential is tried immediately.
type credentialRejection struct {
	mu          sync.Mutex
	err         error
	fingerprint [sha256.Size]byte
	pause       pause
}

// cachedError returns the error of the rejection while this credential is not to be tried
// again, else nil.
func (r *credentialRejection) cachedError(fingerprint [sha256.Size]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fingerprint == fingerprint && r.pause.remaining() > 0 {
		return r.err
	}
	return nil
}

// record updates the rejection by the result of a token request; nil is a success.
// Temporary errors are ignored, because they do not concern the credential.
func (r *credentialRejection) record(fingerprint [sha256.Size]byte, err error) {
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
