package simulation

import (
	"slices"
	"sync"
	"time"
)

// Call is one call that reached the tenant.
type Call struct {
	// Number counts the tenant's calls from 1, in the order of their arrival.
	Number int
	// At is when it arrived.
	At     time.Time
	API    API
	Origin Origin // the role of the host it reached
	Method string
	Target string // path and query
	// Authorized is true if it presented some authorization, Audience for whom:
	// empty where that was not one of the tenant's tokens.
	Authorized bool
	Audience   string
	// Status is the answer's, 0 while there is none and where there never was.
	Status int
	// Broken is true if a fault broke the answer off, or allowed none.
	Broken bool
	// Rows is how many rows the answer held, repeats included.
	Rows int
	// View is the fleet that the answer showed; only for an answer with rows.
	View View
	// Done is true when the answer has ended.
	Done bool
}

// Calls are the calls so far, in the order of their arrival, as far back as
// Options.CallLog remembers.
func (t *Tenant) Calls() []Call {
	t.log.mu.Lock()
	defer t.log.mu.Unlock()
	return slices.Concat(t.log.calls[t.log.oldest:], t.log.calls[:t.log.oldest])
}

// Count counts the calls of an API, or of Every, that were answered with one of
// the given statuses, or with any where none is given. Status 0 stands for
// those not answered. It counts all calls, remembered or not.
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

// Busiest is the largest number of calls of an API that arrived within any span
// of this length. A span includes its beginning and not its end.
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

// Misdirected are the calls that presented a token, or whatever else they sent
// for authorization, where it does not belong: at an API of another audience,
// at the sign-in endpoint or at an unknown path. There should never be one.
func (t *Tenant) Misdirected() []Call {
	return slices.DeleteFunc(t.Calls(), func(c Call) bool {
		i := slices.IndexFunc(endpoints[:], func(e endpoint) bool { return e.api == c.API })
		return !c.Authorized || c.Audience != "" && c.Audience == endpoints[i].host.audience()
	})
}

// ForgetCalls empties the log and sets all counts to zero.
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
	number    int // of the latest call
	forgotten int // number of the latest call that ForgetCalls forgot
	calls     []Call
	oldest    int // place of the oldest call once the ring is full
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
