package domains

import (
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
)

// domainSchedule decides which watched domain is asked next: the order is its own,
// the pace that of the quota. It makes no call and reads no clock.
//
//   - A domain that was never asked comes before all others, as fast as the
//     quota allows.
//   - Of the others the one that was asked longest ago comes next; calls are
//     spread evenly over the interval, or over the time that the quota needs for
//     the whole list, whichever is longer.
//   - A domain that failed is tried again after growing pauses where there is
//     room between the others, and in its turn at the latest.
type domainSchedule struct {
	interval time.Duration // The configured one.
	pacer    *client.Pacer
	domains  int                       // On the list.
	fresh    timeQueue[*watchedDomain] // Never asked, in the order of the list.
	waiting  timeQueue[*watchedDomain] // By the time they were asked.
	failed   timeQueue[*watchedDomain] // By the time to try again.
	last     time.Time                 // When the last domain was asked.
}

// cycle is the time in which each domain is asked once.
func (s *domainSchedule) cycle() time.Duration { return s.cycleAt(s.pacer.Pace()) }

func (s *domainSchedule) cycleAt(pace time.Duration) time.Duration {
	return max(s.interval, time.Duration(s.domains)*pace)
}

// add puts a domain on the list that was never asked.
func (s *domainSchedule) add(d *watchedDomain) {
	s.domains++
	s.fresh.put(&d.turn, d, time.Time{})
}

// restore gives a domain of the list the turn of one that was asked at a time, which
// needs a monotonic clock reading, where those of other calls have one.
func (s *domainSchedule) restore(d *watchedDomain, asked time.Time) {
	d.visited = asked
	s.last = later(s.last, asked)
	s.waiting.put(&d.turn, d, asked)
}

// remove takes a domain off the list.
func (s *domainSchedule) remove(d *watchedDomain) {
	s.domains--
	d.turn.leave()
}

// wantedDomains says which domains may be next beside those that have answered:
// those that were never asked, and those that failed.
type wantedDomains struct{ fresh, failed bool }

// next returns the domain to ask next and the time to do so, which may have
// passed. It is nil where there is none; a call that starts or ends, and a
// domain that comes or goes, may change the answer. underway is how many domains
// are asked now, whose calls the quota may not count yet.
func (s *domainSchedule) next(now time.Time, underway int, wanted wantedDomains) (*watchedDomain, time.Time) {
	if d, ok := s.fresh.first(); ok && wanted.fresh {
		return d, s.pacer.NextInHurry(now, underway)
	}
	paced, pace := s.pacer.Next(now)
	var next *watchedDomain
	var at time.Time
	if d, ok := s.waiting.first(); ok {
		next = d
		cycle := s.cycleAt(pace)
		at = s.last.Add(cycle / time.Duration(s.domains))
		// Ages are wall time: after a machine was suspended, all that is too old by
		// the clock is due, though the timers stood still.
		if due := now.Add(collector.Wall(next.visited).Add(cycle).Sub(now)); due.Before(at) {
			at = due
		}
		at = later(at, paced)
	}
	if again, ok := s.failed.first(); ok && wanted.failed {
		retryAt := later(again.retry, paced)
		if next == nil || retryAt.Before(at) || retryAt.Equal(at) && again.visited.Before(next.visited) {
			next, at = again, retryAt
		}
	}
	return next, at
}

// start takes a domain, which is asked now, out of its queue.
func (s *domainSchedule) start(d *watchedDomain, now time.Time) {
	s.pacer.Leave(now)
	d.turn.leave()
	d.visited, s.last = now, now
}

// answered puts a domain of the list back in its turn.
func (s *domainSchedule) answered(d *watchedDomain) {
	d.failures = 0
	s.waiting.put(&d.turn, d, d.visited)
}

// failedAt plans another try of a domain of the list after a pause.
func (s *domainSchedule) failedAt(d *watchedDomain, now time.Time) {
	d.failures++
	d.retry = now.Add(min(client.DomainRetry.Within(s.cycle()).After(d.failures), s.cycle()))
	s.failed.put(&d.turn, d, d.retry)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
