package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// The rules by which the exporter waits for services, those of the collectors
// included. The table of docs/design.md has the reason of each, and a test compares
// the two.
var (
	// RefreshRetry is for a collector that failed; its interval bounds the pauses.
	RefreshRetry = RetryRule{Pauses: []time.Duration{15 * time.Second}, Jitter: 0.25}
	// RefreshSpread is for the interval between two refreshes.
	RefreshSpread = RetryRule{Jitter: 0.05}
	// DomainRetry is for a watched domain that failed; the time that the whole list
	// takes bounds the pauses.
	DomainRetry = RetryRule{Pauses: []time.Duration{time.Minute}, Jitter: 0.25}

	// Of API calls and token requests that failed in passing, and of the calls after
	// a 429 that does not say how long to wait; for a managed identity identityRetry.
	callRetry     = RetryRule{Pauses: []time.Duration{time.Second}, Longest: time.Minute, Jitter: 0.25, Tries: 5}
	identityRetry = RetryRule{Pauses: []time.Duration{2 * time.Second, 6 * time.Second, 14 * time.Second, 30 * time.Second}, Tries: 5}
	// Of a credential that the sign-in host refuses, and a new token that an API refuses.
	credentialRetry = RetryRule{Pauses: []time.Duration{time.Minute}, Longest: 5 * time.Minute}
	tokenRetry      = RetryRule{Pauses: []time.Duration{5 * time.Minute}}
)

const (
	// MinDeniedPause is the least pause of a collector whose access was denied.
	MinDeniedPause = time.Minute
	// MaxLookupRetries bounds the time in which one lookup of a domain is retried.
	MaxLookupRetries = 2 * time.Minute
	// MinHang bounds the half of an interval after which a lookup of a domain hangs.
	MinHang = 5 * time.Second
	// MaxHang bounds it from above.
	MaxHang = time.Minute
	// PreviewRecheck is the age at which the refusal of the Graph preview is verified.
	PreviewRecheck = time.Hour
	// StartSpacing lies between the starts of two tenants.
	StartSpacing = 100 * time.Millisecond

	maxRetryAfter = 24 * time.Hour
	maxSignInWait = 5 * time.Minute // From the first refusal on.
	renewBefore   = 5 * time.Minute // A token expires.
	renewAgain    = 30 * time.Second
	quotaGuard    = 5 * time.Second // Of each window.
	paceGuard     = 8 * time.Second // Likewise, for an even pace.
)

// A RetryRule says how long to wait after failures in a row.
type RetryRule struct {
	// Pauses are those after the first failures, in this order.
	Pauses []time.Duration
	// Longest bounds the pauses that follow, each twice the one before. Zero
	// repeats the last of Pauses.
	Longest time.Duration
	// Jitter is the share by which each pause is longer or shorter at random, so
	// that those that failed together do not come back together.
	Jitter float64
	// Tries is how often something is tried before it fails. Zero means no limit.
	Tries int
}

// Within returns the rule with another Longest, which bounds the first pauses, too.
func (r RetryRule) Within(longest time.Duration) RetryRule {
	r.Longest = longest
	return r
}

// After returns the pause after that many failures in a row.
func (r RetryRule) After(failures int) time.Duration {
	pause := r.Pauses[min(max(failures, 1), len(r.Pauses))-1]
	if r.Longest > 0 {
		pause = min(pause<<min(max(failures-len(r.Pauses), 0), 20), r.Longest)
	}
	return r.Spread(pause)
}

// Spread returns d with the rule's jitter.
func (r RetryRule) Spread(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 + r.Jitter*(2*rand.Float64()-1)))
}

// A pause holds back what failed. The zero pause is over. A pause is not safe for
// concurrent use.
type pause struct {
	until    time.Time
	failures int // In a row that did not say how long to wait.
}

// extend makes the pause last for as long as a service asked, or as the rule says
// where it asked for nothing. It returns for how long; a pause never becomes shorter.
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

// succeeded makes the next pause by a rule as long as after a first failure. The
// pause that lasts does not end.
func (p *pause) succeeded() { p.failures = 0 }

// left returns how long the pause still lasts, zero where it is over.
func (p *pause) left() time.Duration { return max(time.Until(p.until), 0) }

// Sleep waits, and returns the error of the context where that ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
