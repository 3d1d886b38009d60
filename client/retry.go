package client

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// retry makes an attempt and makes it again, after the pauses of the rule, where
// the API failed for a passing reason: 429, 5xx, a broken connection, a timeout.
// What the service asks to wait is waited exactly. No pause goes past the deadline
// of WithRetryDeadline; up to there a throttled call is tried as often as the
// service asks for, every other one as often as the rule says.
func retry(ctx context.Context, api API, rule RetryRule, attempt func(context.Context) error) error {
	deadline, bounded := retryDeadline(ctx)
	for failures := 0; ; {
		err := attempt(ctx)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.API != api || !e.Reason.Passing() || e.final || ctx.Err() != nil {
			return err
		}
		if e.Reason != ReasonThrottled || !bounded {
			failures++
		}
		pause := max(e.RetryAfter, e.held)
		if pause <= 0 {
			pause = rule.After(failures)
		}
		if failures >= rule.Tries || bounded && pause > time.Until(deadline) {
			return err
		}
		if e.held > 0 {
			continue // The gate of the API lets nobody through before.
		}
		if err := Sleep(ctx, pause); err != nil {
			return interrupted(ctx, e.API, "before trying again: "+e.Error())
		}
	}
}

// Passing reports whether the same call may succeed a little later.
func (r Reason) Passing() bool {
	return r == ReasonThrottled || r == ReasonServer || r == ReasonNetwork || r == ReasonTimeout
}

// comeBack returns the reason and the pause of an answer by which a service asks to
// come back later, ReasonOther and zero for any other.
func comeBack(answer *http.Response) (Reason, time.Duration) {
	switch {
	case answer.StatusCode == http.StatusTooManyRequests:
		return ReasonThrottled, retryAfter(answer.Header)
	case answer.StatusCode >= 500:
		return ReasonServer, retryAfter(answer.Header)
	default:
		return ReasonOther, 0
	}
}

// retryAfter reads a Retry-After header (RFC 9110, section 10.2.3): seconds, or
// a date. A date is held against the answer's own Date, so that a clock that is
// wrong on either side changes nothing. Zero means that the header asks for no
// wait or cannot be read.
func retryAfter(h http.Header) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if strings.Trim(text, "0123456789") == "" {
		seconds, _ := strconv.Atoi(text) // The largest int where it does not fit into one.
		return time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
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
