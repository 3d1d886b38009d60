package client

import (
	"time"
)

// QuotaUse is how much of the quota of one API is spent.
type QuotaUse struct {
	// MinuteCalls and HourCalls are the calls of the last 60 and 3600 seconds, including
	// those about to be sent.
	MinuteCalls, HourCalls int
	// Limits are the smallest limits of the clients that share the quota.
	Limits Limits
	// Known reports whether all calls of the last hour are counted, because there is a
	// Ledger or the quota is at least an hour old.
	Known bool
	// Clients is the number of clients that made calls in the last hour. OthersHourCalls
	// is the number of calls of the other clients.
	Clients, OthersHourCalls int
}

// Share returns the limits that the client may plan with: what the other clients do not
// use, and at least an equal part.
func (u QuotaUse) Share() Limits {
	perHour := max(u.Limits.CallsPerHour-u.OthersHourCalls, u.Limits.CallsPerHour/max(1, u.Clients), 1)
	return Limits{
		CallsPerMinute: max(1, u.Limits.CallsPerMinute*perHour/max(1, u.Limits.CallsPerHour)),
		CallsPerHour:   perHour,
	}
}

// HasRoom reports whether a call could be sent now without waiting.
func (u QuotaUse) HasRoom() bool {
	return u.MinuteCalls < u.Limits.CallsPerMinute && u.HourCalls < u.Limits.CallsPerHour
}

// A Pacer schedules an endless series of calls evenly over the client's share of a quota.
// Paced calls do not wait for quota. Without it, calls would be sent in bursts: those that
// wait for quota are sent together, and again an hour later.
//
// After a start, one minute's limit may be spent ahead of the pace. The pace of the
// following hour is slower by that amount. If the calls of the last hour are known,
// NextUrgent allows calls up to the limits of the quota.
//
// A Pacer makes no call and reads no clock. It is not safe for concurrent use.
type Pacer struct {
	quota func(API) QuotaUse
	apis  []API

	use     QuotaUse      // Of the first API, when it was last read.
	pace    time.Duration // Between two calls of an even pace.
	perHour int           // Calls the quota allows in an hour.
	burst   int           // Calls that may still be sent ahead of the pace.
	ahead   int           // Calls sent ahead of the pace that are not compensated yet.
	aheadAt time.Time     // When the last of them was sent.
	last    time.Time     // When the last call was sent.
	full    time.Time     // When the quota was last found to be spent.
}

// NewPacer returns a Pacer for calls that each call every one of the APIs once. The API
// with the smallest share sets the pace. quota is the method Quota of a Client.
func NewPacer(quota func(API) QuotaUse, apis ...API) *Pacer {
	p := &Pacer{quota: quota, apis: apis}
	p.burst = max(1, p.Read().CallsPerMinute) - 1 // After the first call, which is never delayed.
	return p
}

// Read updates the pace by the quota's current use, including that of other clients, and
// returns the limits that the client may plan with.
func (p *Pacer) Read() Limits {
	p.use = p.quota(p.apis[0])
	limits := p.use.Share()
	for _, api := range p.apis[1:] {
		limits = limits.smaller(p.quota(api).Share())
	}
	p.perHour = max(1, limits.CallsPerHour)
	p.pace = max((time.Hour+paceGuard)/time.Duration(p.perHour),
		(time.Minute+paceGuard)/time.Duration(max(1, limits.CallsPerMinute)))
	return limits
}

// Pace returns the time between two calls at which the quota lasts indefinitely.
func (p *Pacer) Pace() time.Duration { return p.pace }

// Next returns when the next call may be sent, which may be in the past, and the current
// time between two calls, which is zero while calls may be sent ahead of the pace.
func (p *Pacer) Next(now time.Time) (at time.Time, pace time.Duration) {
	if p.burst <= 0 {
		pace = p.pace
		// Slow down to compensate for the calls sent ahead, unless they used more than half
		// of the hour's quota.
		if p.ahead <= p.perHour/2 && now.Sub(p.aheadAt) <= time.Hour {
			pace = max(pace, (time.Hour+paceGuard)/time.Duration(p.perHour-p.ahead))
		}
	}
	at = p.last.Add(pace)
	if !p.use.HasRoom() {
		p.full = now
	}
	if again := p.full.Add(paceGuard); !p.full.IsZero() && again.After(at) {
		at = again // Calls that wait for quota would be sent in a burst.
	}
	return at, pace
}

// NextUrgent returns when the next urgent call may be sent, which need not keep the even
// pace. If the calls of the last hour are known, the quota is the only limit; if it is
// spent, the caller should ask again one pace later. If they are not known, only the burst
// after a start is allowed, so that repeated starts exceed the pace by their bursts only.
// underway is the number of calls that were sent and that the quota does not count yet.
func (p *Pacer) NextUrgent(now time.Time, underway int) time.Time {
	paced, use := p.last.Add(p.pace), p.use
	use.MinuteCalls += underway
	use.HourCalls += underway
	switch {
	case use.Known && use.HasRoom(), !use.Known && p.burst > 0:
		return now
	case use.Known && paced.Before(now.Add(p.pace)):
		return now.Add(p.pace)
	default:
		return paced
	}
}

// RecordCall counts a call that is sent now.
func (p *Pacer) RecordCall(now time.Time) {
	if now.Before(p.last.Add(p.pace)) {
		if now.Sub(p.aheadAt) > time.Hour {
			p.ahead = 0
		}
		p.burst--
		p.ahead++
		p.aheadAt = now
	}
	p.last = now
}
