package simulation

import (
	"slices"
	"sync"
	"time"
)

// Call is one HTTP call to the tenant.
type Call struct {
	// Number is the call's number, counted from 1 in order of arrival.
	Number int
	// At is the time of arrival.
	At     time.Time
	API    API
	Origin Origin // the origin whose host was called
	Method string
	Target string // path and query
	// Authorized is true if the call had an Authorization header. Audience is its
	// token's audience; empty if it was not a token of this tenant.
	Authorized bool
	Audience   string
	// Status is the response status. 0 means no response yet, or none at all.
	Status int
	// Broken is true if a fault truncated or prevented the response.
	Broken bool
	// Rows is the number of rows in the response, repeated ones included.
	Rows int
	// View is the fleet that the response showed. Only set for responses with
	// rows.
	View View
	// Done is true once the response has ended.
	Done bool
}

// Calls returns the latest calls in order of arrival, at most Options.CallLog.
func (t *Tenant) Calls() []Call {
	t.log.mu.Lock()
	defer t.log.mu.Unlock()
	return slices.Concat(t.log.calls[t.log.oldest:], t.log.calls[:t.log.oldest])
}

// Count returns the number of calls of an API, or of Every, with one of the given
// statuses, or with any status if none is given. Status 0 means no response. It
// counts all calls, including those that are no longer in the log.
func (t *Tenant) Count(api API, statuses ...int) int {
	t.log.mu.Lock()
	defer t.log.mu.Unlock()
	n := 0
	for key, count := range t.log.counts {
		if (api == Every || api == key.api) && (len(statuses) == 0 || slices.Contains(statuses, key.status)) {
			n += count
		}
	}
	return n
}

// Busiest returns the largest number of calls of an API within any span. A span
// includes its start and excludes its end.
func (t *Tenant) Busiest(api API, span time.Duration) int {
	var times []time.Time
	for _, c := range t.Calls() {
		if api == Every || c.API == api {
			times = append(times, c.At)
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	busiest, first := 0, 0
	for i, at := range times {
		for at.Sub(times[first]) >= span {
			first++
		}
		busiest = max(busiest, i-first+1)
	}
	return busiest
}

// Misdirected returns the calls with an Authorization header that does not belong
// there: at an API of another audience, at the sign-in endpoint or at an unknown
// path. There should be none.
func (t *Tenant) Misdirected() []Call {
	return slices.DeleteFunc(t.Calls(), func(c Call) bool {
		i := slices.IndexFunc(endpoints[:], func(e endpoint) bool { return e.api == c.API })
		return !c.Authorized || c.Audience != "" && c.Audience == endpoints[i].host.audience()
	})
}

// ForgetCalls empties the log and resets all counts.
func (t *Tenant) ForgetCalls() {
	t.log.mu.Lock()
	defer t.log.mu.Unlock()
	t.log.calls, t.log.oldest, t.log.counts = nil, 0, nil
	t.log.forgotten = t.log.number
}

// callLog is a ring of the latest calls.
type callLog struct {
	size int

	mu        sync.Mutex
	number    int // number of the latest call
	forgotten int // number of the latest call before ForgetCalls
	calls     []Call
	oldest    int // index of the oldest call once the ring is full
	counts    map[countKey]int
}

type countKey struct {
	api    API
	status int
}

func (l *callLog) begin(c Call) Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.number++
	c.Number = l.number
	l.add(countKey{c.API, 0}, 1)
	switch {
	case l.size == 0:
	case len(l.calls) < l.size:
		l.calls = append(l.calls, c)
	default:
		l.calls[l.oldest] = c
		l.oldest = (l.oldest + 1) % l.size
	}
	return c
}

func (l *callLog) end(c *Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.Number <= l.forgotten {
		return
	}
	c.Done = true
	l.add(countKey{c.API, 0}, -1)
	l.add(countKey{c.API, c.Status}, 1)
	if ago := l.number - c.Number; ago < len(l.calls) {
		i := (l.oldest + len(l.calls) - 1 - ago) % len(l.calls)
		l.calls[i] = *c
	}
}

func (l *callLog) add(key countKey, n int) {
	if l.counts == nil {
		l.counts = map[countKey]int{}
	}
	l.counts[key] += n
}
