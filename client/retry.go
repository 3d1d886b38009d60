package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// maxFailures is how often a call may fail before retry gives up.
const maxFailures = 5

// retry makes an attempt and makes it again, after growing pauses, where it
// failed for a passing reason: 429, 5xx, a broken connection, a timeout. What
// the service asks to wait is waited exactly. No pause goes past the deadline of
// WithRetryDeadline; up to there a throttled call is tried as often as the
// service asks for, every other one at most maxFailures times.
func retry(ctx context.Context, attempt func(context.Context) error) error {
	deadline, bounded := retryDeadline(ctx)
	for failures := 0; ; {
		err := attempt(ctx)
		if final, ok := errors.AsType[finalError](err); ok {
			return final.error
		}
		e, ok := errors.AsType[*Error](err)
		if !ok || !e.passing() || ctx.Err() != nil {
			return err
		}
		if e.Reason != ReasonThrottled || !bounded {
			failures++
		}
		pause := max(e.RetryAfter, e.held)
		if pause <= 0 {
			pause = backoff(max(failures, 1))
		}
		if failures >= maxFailures || bounded && pause > time.Until(deadline) {
			return err
		}
		if e.held > 0 {
			continue // The gate of the API lets nobody through before.
		}
		if err := sleep(ctx, pause); err != nil {
			return interrupted(ctx, e.API, "before trying again: "+e.Error())
		}
	}
}

// passing tells whether the same call may succeed a little later.
func (e *Error) passing() bool {
	switch e.Reason {
	case ReasonThrottled, ReasonServer, ReasonNetwork, ReasonTimeout:
		return true
	default:
		return false
	}
}

// finalError wraps an error that retry hands back at once, such as one that was
// tried often enough below.
type finalError struct{ error }

// backoff is the pause after the n-th failure in a row: one second, then twice
// the last pause, up to a minute, give or take a quarter so that those who failed
// together do not come back together.
func backoff(n int) time.Duration {
	pause := min(time.Second<<min(n-1, 10), time.Minute)
	return time.Duration(float64(pause) * (0.75 + rand.Float64()/2))
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type attemptErrorsKey struct{}

// WithAttemptErrors returns a context under which report is called after every
// attempt of a call, with its error, nil where there was none: why a call that is
// still retried has no answer so far. Reports of one call come one after another.
func WithAttemptErrors(ctx context.Context, report func(error)) context.Context {
	return context.WithValue(ctx, attemptErrorsKey{}, report)
}

type retryDeadlineKey struct{}

// WithRetryDeadline returns a context under which no pause before another
// attempt, and no wait the service asks for, goes past t: the call then fails
// with what it has. Attempts under way are ended by the context's own deadline.
func WithRetryDeadline(ctx context.Context, t time.Time) context.Context {
	return context.WithValue(ctx, retryDeadlineKey{}, t)
}

// retryDeadline is the time of WithRetryDeadline or of the context's own
// deadline, whichever comes first.
func retryDeadline(ctx context.Context) (time.Time, bool) {
	own, hasOwn := ctx.Deadline()
	t, ok := ctx.Value(retryDeadlineKey{}).(time.Time)
	if !ok || hasOwn && own.Before(t) {
		return own, hasOwn
	}
	return t, true
}
