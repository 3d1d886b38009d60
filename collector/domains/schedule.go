package domains

import (
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
)

// domainSchedule decides which domain is looked up next and when. The pacer determines
// the pace that the quota allows. The schedule makes no call and reads no clock.
//
//   - Each list spreads its lookups evenly over its interval, or over the time that the
//     quota allows it if that is longer. The domain looked up longest ago is next. If
//     several lists are due, the shortest interval goes first.
//   - A domain that was never looked up precedes the others of its list and of longer
//     intervals: as fast as the quota allows without delaying a shorter interval.
//   - A failed domain is retried after growing pauses if there is room between the
//     others, and at its next turn at the latest.
type domainSchedule struct {
	lists []*watchList // The shortest interval first.
	pacer *client.Pacer
	once  bool // Domains that were never looked up precede those of all lists.
}

// turns schedules the domains of a list.
type turns struct {
	domains int
	fresh   []*watchedDomain          // Never looked up, in the order of the list. May contain removed domains.
	waiting timeQueue[*watchedDomain] // By the time of their last lookup.
	failed  timeQueue[*watchedDomain] // By the time of their next attempt.
	since   time.Time                 // When the last turn was due.
}

const (
	// keptShare is the part that longer intervals keep of the calls they need when a
	// shorter interval needs more than the rest, and the part of the quota that they
	// keep when that interval must be stretched nevertheless.
	keptShare = 1.0 / 20
	// maxLag limits how much time a list catches up after other lists went first.
	maxLag = time.Minute
)

// cycles returns the duration of one lookup of every domain of each list at a pace of
// calls. It is the list's interval unless the pace is too slow for all lists: then the
// longest interval is stretched first, but none beyond a longer one.
func (s *domainSchedule) cycles(pace time.Duration) []time.Duration {
	type level struct { // Lists with the same cycle.
		end, domains int
		calls        float64 // Per second.
		cycle        time.Duration
	}
	sum := func(lists []*watchList) (domains int, calls float64) {
		for _, l := range lists {
			domains += l.turns.domains
			calls += float64(l.turns.domains) / l.interval().Seconds()
		}
		return domains, calls
	}
	free := 1 / pace.Seconds()
	var levels []level
	for begin := 0; begin < len(s.lists); {
		this := level{end: begin, cycle: s.lists[begin].interval()}
		for this.end < len(s.lists) && s.lists[this.end].interval() == this.cycle {
			this.end++
		}
		this.domains, this.calls = sum(s.lists[begin:this.end])
		begin = this.end
		_, longer := sum(s.lists[begin:])
		if this.calls > free-keptShare*min(longer, free) {
			this.calls = free - min(longer, keptShare*free)
			this.cycle = max(this.cycle, timeFor(this.domains, this.calls))
		}
		free -= this.calls
		for n := len(levels) - 1; n >= 0 && levels[n].cycle > this.cycle; n-- {
			this.domains += levels[n].domains
			this.calls += levels[n].calls
			this.cycle = timeFor(this.domains, this.calls)
			levels = levels[:n]
		}
		levels = append(levels, this)
	}
	cycles := make([]time.Duration, 0, len(s.lists))
	for _, l := range levels {
		for len(cycles) < l.end {
			cycles = append(cycles, l.cycle)
		}
	}
	return cycles
}

// timeFor returns the duration of calls at a rate per second.
func timeFor(calls int, rate float64) time.Duration {
	return time.Duration(float64(calls) / rate * float64(time.Second)).Round(time.Microsecond)
}

// cycle returns the duration of one lookup of every domain of a list at the pace that
// the quota sustains.
func (s *domainSchedule) cycle(l *watchList) time.Duration {
	return s.cycles(s.pacer.Pace())[l.index]
}

// add adds a domain that was never looked up to its list.
func (s *domainSchedule) add(d *watchedDomain) {
	t := &d.on.list.turns
	t.domains++
	t.fresh = append(t.fresh, d)
}

// restore schedules a domain that was looked up before. If other times have a monotonic
// clock reading, lookedUp needs one too.
func (s *domainSchedule) restore(d *watchedDomain, lookedUp time.Time) {
	d.visited = lookedUp
	t := &d.on.list.turns
	t.since = later(t.since, lookedUp)
	t.waiting.put(&d.turn, d, lookedUp)
}

// remove removes a domain from its list.
func (s *domainSchedule) remove(d *watchedDomain) {
	d.on.list.turns.domains--
	d.turn.remove()
}

// move moves a domain to another list, even during a lookup.
func (s *domainSchedule) move(d *watchedDomain, on *placement) {
	from, to := &d.on.list.turns, &on.list.turns
	d.on = on
	if from == to {
		return
	}
	from.domains--
	to.domains++
	switch d.turn.queue {
	case &from.waiting:
		to.waiting.put(&d.turn, d, d.visited)
	case &from.failed:
		to.failed.put(&d.turn, d, d.retry)
	default:
		if d.visited.IsZero() {
			to.fresh = append(to.fresh, d)
		}
	}
	to.since = later(to.since, d.visited)
}

// firstFresh returns the first domain of the list that was never looked up, or nil.
func (l *watchList) firstFresh() *watchedDomain {
	t := &l.turns
	for len(t.fresh) > 0 {
		if d := t.fresh[0]; d.on != nil && d.on.list == l && d.visited.IsZero() {
			return d
		}
		t.fresh = t.fresh[1:]
	}
	t.fresh = nil
	return nil
}

// wantedDomains says which domains next may return besides those that succeeded: never
// looked up (fresh), or failed.
type wantedDomains struct{ fresh, failed bool }

// next returns the next domain to look up and the time, which may be in the past. It
// returns nil if there is none. A lookup that starts or ends and a change of the
// domains may change the result. inFlight is the number of lookups in progress, whose
// calls the quota may not include yet.
func (s *domainSchedule) next(now time.Time, inFlight int, wanted wantedDomains) (next *watchedDomain, at time.Time) {
	paced, pace := s.pacer.Next(now)
	cycles := s.cycles(pace)
	shorter := 0 // Domains of shorter intervals.
	for i, l := range s.lists {
		if d := l.firstFresh(); d != nil && wanted.fresh {
			due := paced
			if shorter == 0 || s.once {
				due = s.pacer.NextUrgent(now, inFlight)
			}
			if next == nil || due.Before(at) || s.once {
				next, at = d, due
			}
			return next, at
		}
		if d, due := l.turns.next(now, paced, cycles[i], wanted.failed); d != nil && (next == nil || due.Before(at)) {
			next, at = d, due
		}
		shorter += l.turns.domains
	}
	for _, l := range s.lists {
		if d, ok := l.turns.failed.first(); ok && wanted.failed {
			if retry := later(d.retry, paced); next == nil || retry.Before(at) {
				next, at = d, retry
			}
		}
	}
	return next, at
}

// next returns the next domain of the list and the time, not before paced. It ignores
// fresh domains and returns nil if there are no others.
func (t *turns) next(now, paced time.Time, cycle time.Duration, failed bool) (next *watchedDomain, at time.Time) {
	turn := t.nextTurn(cycle)
	for _, queue := range []*timeQueue[*watchedDomain]{&t.waiting, &t.failed} {
		d, ok := queue.first()
		if !ok || queue == &t.failed && !failed {
			continue
		}
		// Ages are wall clock time: after a suspend, expired values are due although
		// timers stood still.
		due := now.Add(collector.Wall(d.visited).Add(cycle).Sub(now))
		if turn.Before(due) {
			due = turn
		}
		due = later(later(due, d.retry), paced)
		if next == nil || due.Before(at) || due.Equal(at) && d.visited.Before(next.visited) {
			next, at = d, due
		}
	}
	return next, at
}

// nextTurn returns when the list's next lookup is due if they are evenly spread.
func (t *turns) nextTurn(cycle time.Duration) time.Time {
	return t.since.Add(cycle / time.Duration(max(1, t.domains)))
}

// start removes a domain from its queue because its lookup starts.
func (s *domainSchedule) start(d *watchedDomain, now time.Time) {
	l := d.on.list
	_, pace := s.pacer.Next(now)
	cycle := s.cycles(pace)[l.index]
	turn := l.turns.nextTurn(cycle)
	l.turns.since = now
	if turn.Before(now) && !d.visited.IsZero() {
		l.turns.since = later(turn, now.Add(-min(cycle, maxLag)))
	}
	s.pacer.RecordCall(now)
	d.turn.remove()
	d.visited = now
}

// succeeded schedules the next lookup of a domain after a success.
func (s *domainSchedule) succeeded(d *watchedDomain) {
	d.failures = 0
	d.on.list.turns.waiting.put(&d.turn, d, d.visited)
}

// failedAt schedules the next attempt of a domain after a failure.
func (s *domainSchedule) failedAt(d *watchedDomain, now time.Time) {
	d.failures++
	cycle := s.cycle(d.on.list)
	d.retry = now.Add(min(client.DomainRetry.Within(cycle).After(d.failures), cycle))
	d.on.list.turns.failed.put(&d.turn, d, d.retry)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
