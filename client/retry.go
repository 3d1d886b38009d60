package client

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// retry calls attempt until it succeeds or fails with an error that is not temporary: 429,
// 5xx, a broken connection or a timeout. Pauses follow the rule, or Retry-After exactly.
// The rule limits the number of attempts. With a deadline, attempts that were throttled
// do not count. No pause extends past the deadline of WithRetryDeadline.
func retry(ctx context.Context, api API, rule RetryRule, attempt func(context.Context) error) error {
	deadline, bounded := retryDeadline(ctx)
	for failures := 0; ; {
		err := attempt(ctx)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.API != api || !e.Reason.Temporary() || e.permanent || ctx.Err() != nil {
			return err
		}
		if e.Reason != ReasonThrottled || !bounded {
			failures++
		}
		pause := max(e.RetryAfter, e.gatePause)
		if pause <= 0 {
			pause = rule.After(failures)
		}
		if failures >= rule.Tries || bounded && pause > time.Until(deadline) {
			return err
		}
		if e.gatePause > 0 {
			continue // The gate of the API delays the next attempt.
		}
		if err := Sleep(ctx, pause); err != nil {
			return interrupted(ctx, e.API, "before a retry: "+e.Error())
		}
	}
}

// Temporary reports whether the same call may succeed later without a change.
func (r Reason) Temporary() bool {
	return r == ReasonThrottled || r == ReasonServer || r == ReasonNetwork || r == ReasonTimeout
}

// retryableStatus returns the Reason and the Retry-After of a response with status 429 or
// 5xx, and ReasonOther and zero for any other status.
func retryableStatus(response *http.Response) (Reason, time.Duration) {
	switch {
	case response.StatusCode == http.StatusTooManyRequests:
		return ReasonThrottled, retryAfter(response.Header)
	case response.StatusCode >= 500:
		return ReasonServer, retryAfter(response.Header)
	default:
		return ReasonOther, 0
	}
}

// retryAfter parses a Retry-After header (RFC 9110, section 10.2.3): seconds, or a date. A
// date is compared with the response's Date header, so that wrong clocks do not matter.
// The result is at most maxRetryAfter. It is zero if the header is missing or invalid.
func retryAfter(h http.Header) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if strings.Trim(text, "0123456789") == "" {
		seconds, _ := strconv.Atoi(text) // The largest int if the number is too large.
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

// WithAttemptErrors returns a context under which report is called after every attempt of
// an API call, with the attempt's error or nil. It is not called concurrently for one call.
func WithAttemptErrors(ctx context.Context, report func(error)) context.Context {
	return context.WithValue(ctx, attemptErrorsKey{}, report)
}

type retryDeadlineKey struct{}

// WithRetryDeadline returns a context under which no pause before a retry and no wait that
// the service asks for extends past t. The call then fails with its last error. t does not
// end attempts in progress; the context's own deadline does.
func WithRetryDeadline(ctx context.Context, t time.Time) context.Context {
	return context.WithValue(ctx, retryDeadlineKey{}, t)
}

// retryDeadline returns the earlier one of the time of WithRetryDeadline and the context's
// own deadline.
func retryDeadline(ctx context.Context) (time.Time, bool) {
	own, hasOwn := ctx.Deadline()
	t, ok := ctx.Value(retryDeadlineKey{}).(time.Time)
	if !ok || hasOwn && own.Before(t) {
		return own, hasOwn
	}
	return t, true
}
