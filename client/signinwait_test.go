package client

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A sign-in host that throttles for hours must not delay every refresh for as long as its
// interval.
func TestThrottledSignInIsRetriedForAtMostFiveMinutes(t *testing.T) {
	for name, test := range map[string]struct {
		status     int
		retryAfter string
	}{
		"429 with Retry-After":      {http.StatusTooManyRequests, "20"},
		"429 without Retry-After":   {http.StatusTooManyRequests, ""},
		"429 with long Retry-After": {http.StatusTooManyRequests, "3600"},
		"503 with Retry-After":      {http.StatusServiceUnavailable, "60"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var throttled atomic.Bool
				throttled.Store(true)
				graph, api := testTokens(secretCredential(), func(w http.ResponseWriter, _ *http.Request) {
					if !throttled.Load() {
						giveToken(w, "good", time.Hour)
						return
					}
					if test.retryAfter != "" {
						w.Header().Set("Retry-After", test.retryAfter)
					}
					w.WriteHeader(test.status)
				})
				defender := newTokens(testOptions(secretCredential(), api), testScope, graph.throttle, &redactor{})
				ctx := WithRetryDeadline(t.Context(), time.Now().Add(time.Hour))
				start := time.Now()
				for i := range 10 {
					for _, tokens := range []*tokens{graph, defender} {
						_, err := tokens.token(ctx)
						if want := map[int]Reason{429: ReasonThrottled, 503: ReasonServer}[test.status]; ReasonOf(err) != want && ReasonOf(err) != ReasonThrottled {
							t.Fatalf("error is %v, want %s", err, want)
						}
					}
					if waited := time.Since(start); waited > 5*time.Minute {
						t.Fatalf("%d refreshes waited %s", i+1, waited)
					}
				}

				// After a success, the next throttling starts a new retry time.
				time.Sleep(time.Hour)
				throttled.Store(false)
				ctx = WithRetryDeadline(t.Context(), time.Now().Add(time.Hour))
				for _, tokens := range []*tokens{graph, defender} {
					token, err := tokens.token(ctx)
					if err != nil {
						t.Fatal(err)
					}
					tokens.reject(token)
				}
				throttled.Store(true)
				start = time.Now()
				time.AfterFunc(2*time.Minute, func() { throttled.Store(false) })
				if _, err := graph.token(ctx); err != nil && test.retryAfter != "3600" {
					t.Errorf("after %s: %v", time.Since(start), err)
				}
			})
		})
	}
}

func TestThrottledSignInFailsWithReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, _ := testTokens(secretCredential(), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "30")
			respondError(w, http.StatusTooManyRequests, "temporarily_unavailable", 90033, "Too many requests.")
		})
		_, err := tokens.token(WithRetryDeadline(t.Context(), time.Now().Add(time.Hour)))
		if ReasonOf(err) != ReasonThrottled || fmt.Sprint(err) != "token: HTTP 429: temporarily_unavailable: AADSTS90033: Too many requests" {
			t.Errorf("error is %v", err)
		}
	})
}

// The retry time restarts after a response that does not throttle.
func TestSignInRetryTimeStartsAtFirstThrottlingAfterSuccess(t *testing.T) {
	throttled := &Error{API: Token, Reason: ReasonThrottled, RetryAfter: time.Second}
	for name, tc := range map[string]struct {
		then  error
		again bool
	}{
		"it still throttles":          {throttled, false},
		"it fails for another reason": {&Error{API: Token, Reason: ReasonServer}, false},
		"it refuses":                  {&Error{API: Token, Reason: ReasonAuth}, true},
		"it issues a token":           {nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var h throttle
				h.record(throttled, callRetry)
				first := h.deadline()
				time.Sleep(2 * time.Minute)
				h.record(tc.then, callRetry)
				time.Sleep(2 * time.Minute)
				want := first
				if tc.again {
					want = time.Now().Add(5 * time.Minute)
				}
				if got := h.deadline(); !got.Equal(want) {
					t.Errorf("the deadline is %s from now, want %s", time.Until(got), time.Until(want))
				}
			})
		})
	}
}
