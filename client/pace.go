package client

import (
	"time"
)

// QuotaUse is how much of the quota of one API is spent.
type QuotaUse struct {
	// MinuteCalls and HourCalls are the calls that left within the last 60 and
	// 3600 seconds, with those that are about to leave.
	MinuteCalls, HourCalls int
	// Limits are those in force for this API: the smallest of the clients that
	// share the quota.
	Limits Limits
	// Known reports whether the whole last hour is counted: there is a Ledger or
	// the quota is an hour old.
	Known bool
	// Clients is how many clients spent of the quota within the last hour, and
	// OthersHourCalls what clients other than this one spent in it.
	Clients, OthersHourCalls int
}

// Share is what the client may plan to spend, now and in the time to come: what
// the others leave, and no less than an equal part.
func (u QuotaUse) Share() Limits {
	perHour := max(u.Limits.CallsPerHour-u.OthersHourCalls, u.Limits.CallsPerHour/max(1, u.Clients), 1)
	return Limits{
		CallsPerMinute: max(1, u.Limits.CallsPerMinute*perHour/max(1, u.Limits.CallsPerHour)),
		CallsPerHour:   perHour,
	}
}

// HasRoom reports whether a call that comes now would leave without a wait.
func (u QuotaUse) HasRoom() bool {
	return u.MinuteCalls < u.Limits.CallsPerMinute && u.HourCalls < u.Limits.CallsPerHour
}

// A Pacer says when the next call may leave, so that calls which never end are
// spread evenly over the client's share of a quota. Calls that leave by it never wait
// at the gate, where those that wait leave in a bunch, and in the next hour again.
//
// A start may spend one minute's limit ahead of that pace. The hour's quota bears it:
// what was spent ahead is made up for within an hour. Where the calls of the last hour
// are known, NextInHurry spends at the limit of the quota itself.
//
// A Pacer makes no call and reads no clock. It is not safe for concurrent use.
type Pacer struct {
	quota func(API) QuotaUse
	apis  []API

	use     QuotaUse      // Of the first API, when it was last read.
	pace    time.Duration // Between two calls, so that the hour's quota lasts the hour.
	perHour int           // Calls the quota allows in an hour.
	burst   int           // Calls that may still leave ahead of the pace.
	ahead   int           // Calls that left ahead of the pace and are not made up for.
	aheadAt time.Time     // When the last of them left.
	last    time.Time     // When the last call left.
	full    time.Time     // When the quota was last seen to be spent.
}

// NewPacer returns the Pacer of calls that each make one call to every one of the
// APIs: the one that allows least sets the pace. Quota is that of a Client.
func NewPacer(quota func(API) QuotaUse, apis ...API) *Pacer {
	p := &Pacer{quota: quota, apis: apis}
	p.burst = max(1, p.Read().CallsPerMinute) - 1 // After the first call, which needs no leave.
	return p
}

// Read takes account of what is spent now, by others, too, and returns what the
// client may plan to spend.
func (p *Pacer) Read() Limits {
	p.use = p.quota(p.apis[0])
	limits := p.use.Share()
	for _, api := range p.apis[1:] {
		limits = limits.and(p.quota(api).Share())
	}
	p.perHour = max(1, limits.CallsPerHour)
	p.pace = max((time.Hour+paceGuard)/time.Duration(p.perHour),
		(time.Minute+paceGuard)/time.Duration(max(1, limits.CallsPerMinute)))
	return limits
}

// Pace is the time between two calls that the quota can carry without end.
func (p *Pacer) Pace() time.Duration { return p.pace }

// Next returns when the next call may leave, which may have passed, and the time
// between two calls until further notice: zero while a start may spend ahead.
func (p *Pacer) Next(now time.Time) (at time.Time, pace time.Duration) {
	if p.burst <= 0 {
		pace = p.pace
		// Calls that left ahead of it are made up for, as far as they leave a part of the
		// hour's quota to spread.
		if p.ahead <= p.perHour/2 && now.Sub(p.aheadAt) <= time.Hour {
			pace = max(pace, (time.Hour+paceGuard)/time.Duration(p.perHour-p.ahead))
		}
	}
	at = p.last.Add(pace)
	if !p.use.HasRoom() {
		p.full = now
	}
	if again := p.full.Add(paceGuard); !p.full.IsZero() && again.After(at) {
		at = again // Calls that wait for quota would leave in a bunch.
	}
	return at, pace
}

// NextInHurry returns when the next call may leave that must not wait for an even
// pace. Where the last hour's calls are known, the quota itself sets the pace; where
// it is full, it is looked at again a call later. Where they are not known, a start
// bursts once and then keeps the pace, so that even one start after the other is
// within the hour's quota but for the bursts. Underway is how many calls may have
// left by the Pacer that the quota does not count yet.
func (p *Pacer) NextInHurry(now time.Time, underway int) time.Time {
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

// Leave counts a call that leaves now.
func (p *Pacer) Leave(now time.Time) {
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
