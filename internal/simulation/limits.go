package simulation

import (
	"sync"
	"time"
)

// Limit is the number of calls that an API accepts. Zero means unlimited.
type Limit struct {
	PerMinute, PerHour int
}

// DocumentedLimits returns the service's documented limits.
func DocumentedLimits() map[API]Limit {
	limits := map[API]Limit{}
	for _, e := range endpoints {
		if e.limit != (Limit{}) {
			limits[e.api] = e.limit
		}
	}
	return limits
}

// limiter enforces exact sliding windows: it rejects a call if the last 60 or
// 3,600 seconds contain the allowed number of calls. Rejected calls do not count.
type limiter struct {
	limits map[API]Limit

	mu    sync.Mutex
	calls map[API][]time.Time // calls of the last hour, oldest first
}

// take counts a call and returns 0, or returns how long to wait.
func (l *limiter) take(api API, at time.Time) time.Duration {
	limit := l.limits[api]
	if limit == (Limit{}) {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := l.calls[api]
	for len(calls) > 0 && at.Sub(calls[0]) >= time.Hour {
		calls = calls[1:]
	}
	wait := time.Duration(0)
	for _, window := range [...]struct {
		span  time.Duration
		calls int
	}{{time.Minute, limit.PerMinute}, {time.Hour, limit.PerHour}} {
		if i := len(calls) - window.calls; window.calls > 0 && i >= 0 {
			wait = max(wait, window.span-at.Sub(calls[i]))
		}
	}
	if wait <= 0 {
		calls = append(calls, at)
	}
	if l.calls == nil {
		l.calls = map[API][]time.Time{}
	}
	l.calls[api] = calls
	return wait
}
