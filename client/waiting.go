package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// The rules for retries and pauses of the whole exporter, including the collectors. The
// table in docs/design.md has the reason for each rule. A test compares the two.
var (
	// RefreshRetry is for a refresh that failed. The refresh interval limits the pauses.
	RefreshRetry = RetryRule{Pauses: []time.Duration{15 * time.Second}, Jitter: 0.25}
	// RefreshSpread is for the interval between two refreshes.
	RefreshSpread = RetryRule{Jitter: 0.05}
	// DomainRetry is for a watched domain that failed. The time that the whole list takes
	// limits the pauses.
	DomainRetry = RetryRule{Pauses: []time.Duration{time.Minute}, Jitter: 0.25}

	// callRetry is for API calls and token requests that failed with a temporary error,
	// and for calls after a 429 without Retry-After. identityRetry is for the token
	// requests of a managed identity.
	callRetry     = RetryRule{Pauses: []time.Duration{time.Second}, Longest: time.Minute, Jitter: 0.25, Tries: 5}
	identityRetry = RetryRule{Pauses: []time.Duration{2 * time.Second, 6 * time.Second, 14 * time.Second, 30 * time.Second}, Tries: 5}
	// credentialRetry is for a credential that the sign-in host rejects, tokenRetry for a
	// new token that an API rejects.
	credentialRetry = RetryRule{Pauses: []time.Duration{time.Minute}, Longest: 5 * time.Minute}
	tokenRetry      = RetryRule{Pauses: []time.Duration{5 * time.Minute}}
)

const (
	// MinDeniedPause is the minimum pause after a refresh whose access was denied.
	MinDeniedPause = time.Minute
	// MaxLookupRetries is how long one lookup of a domain is retried.
	MaxLookupRetries = 2 * time.Minute
	// MinHang is the minimum time after which a lookup of a domain counts as hanging, which
	// is half of an interval.
	MinHang = 5 * time.Second
	// MaxHang is the maximum of that time.
	MaxHang = time.Minute
	// PreviewRecheck is how long after a rejection the Graph preview is tried again.
	PreviewRecheck = time.Hour
	// StartSpacing is the time between the starts of two tenants.
	StartSpacing = 100 * time.Millisecond

	maxRetryAfter = 24 * time.Hour
	maxSignInWait = 5 * time.Minute // From the first throttled request on.
	renewBefore   = 5 * time.Minute // Before a token expires.
	renewAgain    = 30 * time.Second
	quotaGuard    = 5 * time.Second // Added to each window of the quota.
	paceGuard     = 8 * time.Second // Added to each window for an even pace.
)

// A RetryRule defines the pauses after consecutive failures.
type RetryRule struct {
	// Pauses are the pauses after the first failures.
	Pauses []time.Duration
	// Longest is the maximum pause. Pauses after the last of Pauses double up to it. Zero
	// repeats the last of Pauses.
	Longest time.Duration
	// Jitter is the fraction by which each pause is randomly longer or shorter, so that
	// calls that failed together are not retried together.
	Jitter float64
	// Tries is the maximum number of attempts. Zero means no limit.
	Tries int
}

// Within returns the rule with another Longest.
func (r RetryRule) Within(longest time.Duration) RetryRule {
	r.Longest = longest
	return r
}

// After returns the pause after that many consecutive failures.
func (r RetryRule) After(failures int) time.Duration {
	pause := r.Pauses[min(max(failures, 1), len(r.Pauses))-1]
	if r.Longest > 0 {
		pause = min(pause<<min(max(failures-len(r.Pauses), 0), 20), r.Longest)
	}
	return r.Spread(pause)
}

// Spread returns d with the rule's random jitter.
func (r RetryRule) Spread(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 + r.Jitter*(2*rand.Float64()-1)))
}

// A pause is a time until which no call is made. The zero pause is over. A pause is not
// safe for concurrent use.
type pause struct {
	until    time.Time
	failures int // Consecutive ones without Retry-After.
}

// extend starts a pause of the duration that a service asked for. If asked is zero, the
// duration follows the rule. It returns the duration. A pause never becomes shorter.
func (p *pause) extend(r RetryRule, asked time.Duration) time.Duration {
	if asked <= 0 {
		p.failures++
		asked = r.After(p.failures)
	}
	if until := time.Now().Add(asked); until.After(p.until) {
		p.until = until
	}
	return asked
}

// resetBackoff makes the next pause that follows a rule as long as after a first failure.
// It does not end the current pause.
func (p *pause) resetBackoff() { p.failures = 0 }

// remaining returns how long the pause still lasts, zero if it is over.
func (p *pause) remaining() time.Duration { return max(time.Until(p.until), 0) }

// Sleep waits for d. If the context ends first, it returns the context's error.
func Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
