package domains

import (
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
)

// domainSchedule decides which watched domain is asked next: the order is its own,
// the pace that of the quota. It makes no call and reads no clock.
//
//   - Each list spreads its calls evenly over its interval, or over the time that the
//     quota allows it, whichever is longer. Of its domains the one that was asked
//     longest ago comes next. Where several lists have a turn, the shortest interval
//     goes first.
//   - A domain that was never asked comes before all others of its list and of longer
//     intervals: as fast as the quota allows, unless it would hold up a shorter interval.
//   - A domain that failed is tried again after growing pauses where there is
//     room between the others, and in its turn at the latest.
type domainSchedule struct {
	lists []*watchList // The shortest interval first.
	pacer *client.Pacer
	once  bool // Domains that were never asked come before those of all lists.
}

// turns are those of the domains whose interval a list decides.
type turns struct {
	domains int
	fresh   []*watchedDomain          // Never asked, in the order of the list. Those that left it are skipped.
	waiting timeQueue[*watchedDomain] // By the time they were asked.
	failed  timeQueue[*watchedDomain] // By the time to try again.
	since   time.Time                 // When the last turn was due.
}

const (
	// keptShare is the part that longer intervals keep of what they need so that a
	// shorter one is not stretched, and of the quota where it is nevertheless.
	keptShare = 1.0 / 20
	// maxLag bounds how many turns a list makes up for after others went first.
	maxLag = time.Minute
)

// cycles returns, for each list, the time in which each of its domains is asked once
// at a pace of calls. That is its interval, unless the pace cannot carry all lists:
// then the longest interval is stretched first, and none beyond a longer one.
func (s *domainSchedule) cycles(pace time.Duration) []time.Duration {
	type level struct { // Of lists that have the same cycle.
		end, domains int
		calls        float64 // In a second.
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

// timeFor is how long calls take at a rate in a second.
func timeFor(calls int, rate float64) time.Duration {
	return time.Duration(float64(calls) / rate * float64(time.Second)).Round(time.Microsecond)
}

// cycle is the time in which each domain of a list is asked once, at the pace that
// the quota can carry without end.
func (s *domainSchedule) cycle(l *watchList) time.Duration {
	return s.cycles(s.pacer.Pace())[l.index]
}

// add puts a domain on its list that was never asked.
func (s *domainSchedule) add(d *watchedDomain) {
	t := &d.on.list.turns
	t.domains++
	t.fresh = append(t.fresh, d)
}

// restore gives a domain the turn of one that was asked at a time, which needs a
// monotonic clock reading, where those of other calls have one.
func (s *domainSchedule) restore(d *watchedDomain, asked time.Time) {
	d.visited = asked
	t := &d.on.list.turns
	t.since = later(t.since, asked)
	t.waiting.put(&d.turn, d, asked)
}

// remove takes a domain off its list.
func (s *domainSchedule) remove(d *watchedDomain) {
	d.on.list.turns.domains--
	d.turn.leave()
}

// move puts a domain, which may be asked at this moment, on another list.
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

// firstFresh returns the domain of the list that was never asked and comes first,
// nil where there is none.
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

// wantedDomains says which domains may be next beside those that have answered:
// those that were never asked, and those that failed.
type wantedDomains struct{ fresh, failed bool }

// next returns the domain to ask next and the time to do so, which may have
// passed. It is nil where there is none; a call that starts or ends, and a
// domain that comes or goes, may change the answer. underway is how many domains
// are asked now, whose calls the quota may not count yet.
func (s *domainSchedule) next(now time.Time, underway int, wanted wantedDomains) (next *watchedDomain, at time.Time) {
	paced, pace := s.pacer.Next(now)
	cycles := s.cycles(pace)
	shorter := 0 // Domains of shorter intervals.
	for i, l := range s.lists {
		if d := l.firstFresh(); d != nil && wanted.fresh {
			due := paced
			if shorter == 0 || s.once {
				due = s.pacer.NextInHurry(now, underway)
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

// next returns the domain of the list whose turn comes next and the time, no earlier
// than paced. It is nil where there is none but perhaps fresh ones.
func (t *turns) next(now, paced time.Time, cycle time.Duration, failed bool) (next *watchedDomain, at time.Time) {
	turn := t.nextTurn(cycle)
	for _, queue := range []*timeQueue[*watchedDomain]{&t.waiting, &t.failed} {
		d, ok := queue.first()
		if !ok || queue == &t.failed && !failed {
			continue
		}
		// Ages are wall time: after a machine was suspended, all that is too old by
		// the clock is due, though the timers stood still.
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

// nextTurn is when the list's next turn is due by an even spread.
func (t *turns) nextTurn(cycle time.Duration) time.Time {
	return t.since.Add(cycle / time.Duration(max(1, t.domains)))
}

// start takes a domain, which is asked now, out of its queue.
func (s *domainSchedule) start(d *watchedDomain, now time.Time) {
	l := d.on.list
	_, pace := s.pacer.Next(now)
	cycle := s.cycles(pace)[l.index]
	turn := l.turns.nextTurn(cycle)
	l.turns.since = now
	if turn.Before(now) && !d.visited.IsZero() {
		l.turns.since = later(turn, now.Add(-min(cycle, maxLag)))
	}
	s.pacer.Leave(now)
	d.turn.leave()
	d.visited = now
}

// answered puts a domain back in its turn.
func (s *domainSchedule) answered(d *watchedDomain) {
	d.failures = 0
	d.on.list.turns.waiting.put(&d.turn, d, d.visited)
}

// failedAt plans another try of a domain after a pause.
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
