// Package wait holds the rules by which the exporter waits for services, and what
// applies them. It knows neither HTTP nor metrics.
package wait

import (
	"context"
	"math/rand/v2"
	"time"
)

// A Rule says how long to wait after failures in a row.
type Rule struct {
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
func (r Rule) Within(longest time.Duration) Rule {
	r.Longest = longest
	return r
}

// After returns the pause after that many failures in a row.
func (r Rule) After(failures int) time.Duration {
	pause := r.Pauses[min(max(failures, 1), len(r.Pauses))-1]
	if r.Longest > 0 {
		pause = min(pause<<min(max(failures-len(r.Pauses), 0), 20), r.Longest)
	}
	return r.Spread(pause)
}

// Spread returns d with the rule's jitter.
func (r Rule) Spread(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 + r.Jitter*(2*rand.Float64()-1)))
}

// A Pause holds back what failed. The zero Pause is over. A Pause is not safe for
// concurrent use.
type Pause struct {
	until    time.Time
	failures int // In a row that did not say how long to wait.
}

// Extend makes the pause last for as long as a service asked, or as the rule says
// where it asked for nothing. It returns for how long; a pause never becomes shorter.
func (p *Pause) Extend(r Rule, asked time.Duration) time.Duration {
	if asked <= 0 {
		p.failures++
		asked = r.After(p.failures)
	}
	if until := time.Now().Add(asked); until.After(p.until) {
		p.until = until
	}
	return asked
}

// Succeeded makes the next pause by a rule as long as after a first failure. The
// pause that lasts does not end.
func (p *Pause) Succeeded() { p.failures = 0 }

// Left returns how long the pause still lasts, zero where it is over.
func (p *Pause) Left() time.Duration { return max(time.Until(p.until), 0) }

// Sleep waits, and returns the error of the context where that ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
