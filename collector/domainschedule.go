package collector

import (
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/internal/wait"
)

// domainSchedule decides which watched domain is asked next, and when. It is
// pure: it makes no call and reads no clock.
//
//   - A domain that was never asked comes before all others, as fast as the
//     quota allows.
//   - Of the others the one that was asked longest ago comes next; calls are
//     spread evenly over the interval, or over the time that the quota needs for
//     the whole list, whichever is longer.
//   - A start may spend one minute's limit ahead of that pace, so that a short
//     list on a short interval does not begin slower than it is meant to go. The
//     hour's quota bears it: what was spent ahead is made up for within an hour.
//   - A domain that failed is tried again after growing pauses where there is
//     room between the others, and in its turn at the latest.
type domainSchedule struct {
	interval time.Duration // The configured one.
	pace     time.Duration // Between two calls, so that the hour's quota lasts the hour.
	perHour  int           // Calls the quota allows in an hour.
	burst    int           // Calls that may still leave ahead of the pace.

	ahead   int       // Calls that left ahead of the pace and are not made up for.
	aheadAt time.Time // When the last of them left.

	domains map[string]*domainVisits
	fresh   timeQueue[*domainVisits] // Never asked, in the order of the list.
	waiting timeQueue[*domainVisits] // By the time they were asked.
	failed  timeQueue[*domainVisits] // By the time to try again.
	last    time.Time                // When the last call left.
	full    time.Time                // When the quota was last seen to be spent.
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

// newDomainSchedule makes an empty schedule under the limits of the API.
func newDomainSchedule(interval time.Duration, limits client.Limits) *domainSchedule {
	s := &domainSchedule{
		interval: interval,
		burst:    max(1, limits.CallsPerMinute) - 1, // After the first call, which needs no leave.
		domains:  make(map[string]*domainVisits),
	}
	s.setLimits(limits)
	return s
}

// setLimits sets the pace that the limits allow. They change where others spend
// of the same quota.
func (s *domainSchedule) setLimits(limits client.Limits) {
	s.perHour = max(1, limits.CallsPerHour)
	s.pace = max((time.Hour+wait.PaceGuard)/time.Duration(s.perHour),
		(time.Minute+wait.PaceGuard)/time.Duration(max(1, limits.CallsPerMinute)))
}

// reserve makes room for n domains on an empty list.
func (s *domainSchedule) reserve(n int) {
	s.domains = make(map[string]*domainVisits, n)
}

// cycle is the time in which each domain is asked once.
func (s *domainSchedule) cycle() time.Duration {
	return max(s.interval, time.Duration(len(s.domains))*s.pace)
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
func (s *domainSchedule) next(now time.Time, quota client.QuotaUse, underway int, wanted wantedDomains) (*domainVisits, time.Time) {
	if v, ok := s.fresh.first(); ok && wanted.fresh {
		quota.MinuteCalls += underway
		quota.HourCalls += underway
		return v, s.fill(now, quota)
	}
	cycle, paced := s.cycle(), s.last.Add(s.paceAt(now))
	if s.burst > 0 {
		cycle, paced = s.interval, s.last
	}
	if !hasRoom(quota) {
		s.full = now
	}
	if !s.full.IsZero() {
		// Calls that wait for quota leave all at once when it is there again, and
		// would do so each time after: these keep the pace instead.
		paced = later(paced, s.full.Add(wait.PaceGuard))
	}
	var next *domainVisits
	var at time.Time
	if v, ok := s.waiting.first(); ok {
		next = v
		at = s.last.Add(cycle / time.Duration(len(s.domains)))
		// Ages are wall time: after a machine was suspended, all that is too old by
		// the clock is due, though the timers stood still.
		if due := now.Add(wall(next.asked).Add(cycle).Sub(now)); due.Before(at) {
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

// paceAt is the pace at a time: slower while calls that left ahead of it are to
// be made up for, as far as they leave a part of the hour's quota to spread.
func (s *domainSchedule) paceAt(now time.Time) time.Duration {
	if s.ahead == 0 || s.ahead > s.perHour/2 || now.Sub(s.aheadAt) > time.Hour {
		return s.pace
	}
	return max(s.pace, (time.Hour+wait.PaceGuard)/time.Duration(s.perHour-s.ahead))
}

// fill tells when a domain that was never asked may be. Where the last hour's
// calls are known, the quota itself sets the pace; where it is full, it is looked
// at again a call later. Where they are not known, a start bursts once and then
// keeps the pace, so that even one start after the other is within the hour's
// quota but for the bursts.
func (s *domainSchedule) fill(now time.Time, quota client.QuotaUse) time.Time {
	paced := s.last.Add(s.pace)
	switch {
	case !quota.Known && s.burst > 0:
		return now
	case !quota.Known:
		return paced
	case hasRoom(quota):
		return now
	default:
		return later(paced, now.Add(s.pace))
	}
}

func hasRoom(quota client.QuotaUse) bool {
	return quota.MinuteCalls < quota.Limits.CallsPerMinute && quota.HourCalls < quota.Limits.CallsPerHour
}

// start notes that a domain is asked now.
func (s *domainSchedule) start(v *domainVisits, now time.Time) {
	if now.Before(s.last.Add(s.pace)) {
		if now.Sub(s.aheadAt) > time.Hour {
			s.ahead = 0
		}
		s.burst--
		s.ahead++
		s.aheadAt = now
	}
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
	v.retry = now.Add(min(wait.FailedDomain.Within(s.cycle()).After(v.failures), s.cycle()))
	s.failed.put(&v.place, v, v.retry)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// wall strips the monotonic clock's reading from a time: ages are wall time, so
// that values do not outlive their age on a machine that was suspended.
func wall(t time.Time) time.Time { return t.Round(0) }
