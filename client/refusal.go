package client

import (
	"crypto/sha256"
	"sync"
	"time"
)

// The pauses after a refusal: doubled with each one, and never so long that a
// consent given in the portal goes unnoticed.
const (
	firstRefusalPause = time.Minute
	lastRefusalPause  = 5 * time.Minute
)

// refusal remembers that the sign-in host refused a credential for good, so
// that it is not asked over and over. A changed credential is asked about at once.
type refusal struct {
	mu          sync.Mutex
	err         error
	fingerprint [sha256.Size]byte
	pause       time.Duration
	until       time.Time
}

// recall returns the error of the refusal while this credential is to be left
// in peace, else nil.
func (r *refusal) recall(fingerprint [sha256.Size]byte, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil && r.fingerprint == fingerprint && now.Before(r.until) {
		return r.err
	}
	return nil
}

// note remembers a refusal, err, and forgets the last one where there is none.
// It is not for passing faults, which say nothing about the credential.
func (r *refusal) note(fingerprint [sha256.Size]byte, err error, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.err, r.pause = nil, 0
		return
	}
	if r.err == nil || r.fingerprint != fingerprint {
		r.pause = firstRefusalPause
	} else {
		r.pause = min(2*r.pause, lastRefusalPause)
	}
	r.err, r.fingerprint, r.until = err, fingerprint, now.Add(r.pause)
}
