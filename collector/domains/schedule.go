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
	domains  map[string]*domainVisits
	fresh    timeQueue[*domainVisits] // Never asked, in the order of the list.
	waiting  timeQueue[*domainVisits] // By the time they were asked.
	failed   timeQueue[*domainVisits] // By the time to try again.
	last     time.Time                // When the last domain was asked.
}

// domainVisits is what the schedule knows of one domain.
type domainVisits struct {
	name     string
	asked    time.Time
	retry    time.Time
	failures int
	place    queuePlace[*domainVisits] // In one of the queues, or in none while it is asked.
	round    int                       // Belongs to the user of the schedule.
}

// reserve makes room for n domains on an empty list.
func (s *domainSchedule) reserve(n int) {
	s.domains = make(map[string]*domainVisits, n)
}

// cycle is the time in which each domain is asked once.
func (s *domainSchedule) cycle() time.Duration { return s.cycleAt(s.pacer.Pace()) }

func (s *domainSchedule) cycleAt(pace time.Duration) time.Duration {
	return max(s.interval, time.Duration(len(s.domains))*pace)
}

// add puts a domain on the list. The zero time means that it was never asked.
// Other times need a monotonic clock reading, where those of other calls have one.
func (s *domainSchedule) add(name string, asked time.Time) *domainVisits {
	v := &domainVisits{name: name, asked: asked}
	s.domains[name] = v
	s.last = later(s.last, asked)
	if asked.IsZero() {
		s.fresh.put(&v.place, v, asked)
	} else {
		s.waiting.put(&v.place, v, asked)
	}
	return v
}

// remove takes a domain off the list.
func (s *domainSchedule) remove(name string) {
	if v := s.domains[name]; v != nil {
		v.place.leave()
		delete(s.domains, name)
	}
}

// wantedDomains says which domains may be next beside those that have answered:
// those that were never asked, and those that failed.
type wantedDomains struct{ fresh, failed bool }

// next returns the domain to ask next and the time to do so, which may have
// passed. It is nil where there is none; a call that starts or ends, and a
// domain that comes or goes, may change the answer. underway is how many domains
// are asked now, whose calls the quota may not count yet.
func (s *domainSchedule) next(now time.Time, underway int, wanted wantedDomains) (*domainVisits, time.Time) {
	if v, ok := s.fresh.first(); ok && wanted.fresh {
		return v, s.pacer.NextInHurry(now, underway)
	}
	paced, pace := s.pacer.Next(now)
	var next *domainVisits
	var at time.Time
	if v, ok := s.waiting.first(); ok {
		next = v
		cycle := s.cycleAt(pace)
		at = s.last.Add(cycle / time.Duration(len(s.domains)))
		// Ages are wall time: after a machine was suspended, all that is too old by
		// the clock is due, though the timers stood still.
		if due := now.Add(collector.Wall(next.asked).Add(cycle).Sub(now)); due.Before(at) {
			at = due
		}
		at = later(at, paced)
	}
	if again, ok := s.failed.first(); ok && wanted.failed {
		retryAt := later(again.retry, paced)
		if next == nil || retryAt.Before(at) || retryAt.Equal(at) && again.asked.Before(next.asked) {
			next, at = again, retryAt
		}
	}
	return next, at
}

// start takes a domain, which is asked now, out of its queue.
func (s *domainSchedule) start(v *domainVisits, now time.Time) {
	s.pacer.Leave(now)
	v.place.leave()
	v.asked = now
	s.last = now
}

// answered puts a domain back in its turn, unless it left the list meanwhile.
func (s *domainSchedule) answered(v *domainVisits) {
	if s.domains[v.name] != v {
		return
	}
	v.failures = 0
	s.waiting.put(&v.place, v, v.asked)
}

// failedAt plans another try after a pause, unless the domain left the list
// meanwhile.
func (s *domainSchedule) failedAt(v *domainVisits, now time.Time) {
	if s.domains[v.name] != v {
		return
	}
	v.failures++
	v.retry = now.Add(min(client.DomainRetry.Within(s.cycle()).After(v.failures), s.cycle()))
	s.failed.put(&v.place, v, v.retry)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
