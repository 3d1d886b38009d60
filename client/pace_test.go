package client

import (
	"testing"
	"time"
)

// pacerOf returns a Pacer whose client does not share the limits and made no call yet.
func pacerOf(limits Limits) *Pacer {
	return NewPacer(func(API) QuotaUse { return QuotaUse{Limits: limits, Clients: 1} }, DomainMachines)
}

// sendAllowed records the calls that may be sent now.
func sendAllowed(p *Pacer, now time.Time) {
	for at, _ := p.Next(now); !at.After(now); at, _ = p.Next(now) {
		p.RecordCall(now)
	}
}

func TestCallsAreSpreadOverTheQuotaAfterABurst(t *testing.T) {
	for name, test := range map[string]struct {
		limits Limits
		atOnce int
	}{
		"a burst that is a small part of the hour's quota": {Limits{10, 300}, 10},
		"a limit of the minute only":                       {Limits{10, 36_000}, 10},
		"one call a minute":                                {Limits{1, 1000}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			now := start
			var api arrivals
			within := func(span time.Duration) (calls int) {
				for i := len(api.times) - 1; i >= 0 && now.Sub(api.times[i]) < span; i-- {
					calls++
				}
				return calls
			}
			p := NewPacer(func(API) QuotaUse {
				return QuotaUse{MinuteCalls: within(time.Minute), HourCalls: within(time.Hour), Limits: test.limits, Clients: 1}
			}, DomainMachines)
			atOnce := 0
			for now.Sub(start) < 5*time.Hour {
				at, _ := p.Next(now)
				if at.After(now) {
					now = at
				} else {
					p.RecordCall(now)
					api.add(now)
				}
				if now.Equal(start) {
					atOnce++
				}
				p.Read()
			}
			if atOnce != test.atOnce {
				t.Errorf("%d calls are sent immediately, want %d", atOnce, test.atOnce)
			}
			hour, minute := api.worst(time.Hour), api.worst(time.Minute)
			if hour > test.limits.CallsPerHour || minute > test.limits.CallsPerMinute {
				t.Errorf("%d calls in an hour and %d in a minute, the limits are %+v", hour, minute, test.limits)
			}
			most := min(test.limits.CallsPerHour, 60*test.limits.CallsPerMinute)
			if got, want := len(api.times), 5*most*85/100; got < want {
				t.Errorf("%d calls in five hours, want at least %d", got, want)
			}
		})
	}
}

func TestPaceFollowsSmallerLimit(t *testing.T) {
	for limits, want := range map[Limits]time.Duration{
		{10, 300}:    3608 * time.Second / 300,
		{10, 36_000}: 68 * time.Second / 10,
	} {
		if got := pacerOf(limits).Pace(); got != want {
			t.Errorf("limits %+v: a pace of %s, want %s", limits, got, want)
		}
	}
}

func TestCallsAheadOfPaceAreCompensatedWithinAnHour(t *testing.T) {
	p := pacerOf(Limits{10, 300})
	start := time.Now()
	sendAllowed(p, start)
	for _, test := range []struct {
		now  time.Time
		want time.Duration
	}{
		{start, 3608 * time.Second / 291},
		{start.Add(time.Hour), 3608 * time.Second / 291},
		{start.Add(time.Hour + 1), 3608 * time.Second / 300},
	} {
		if _, pace := p.Next(test.now); pace != test.want {
			t.Errorf("%s after the burst: a pace of %s, want %s", test.now.Sub(start), pace, test.want)
		}
	}
}

func TestBurstIsCompensatedUpToHalfOfQuota(t *testing.T) {
	for limits, want := range map[Limits]time.Duration{
		{31, 60}: 3608 * time.Second / 30,
		{32, 60}: 3608 * time.Second / 60,
	} {
		p := pacerOf(limits)
		now := time.Now()
		sendAllowed(p, now)
		if _, pace := p.Next(now); pace != want {
			t.Errorf("limits %+v: a pace of %s, want %s", limits, pace, want)
		}
	}
}

func TestCallsAheadOfPaceAddUpWithinAnHour(t *testing.T) {
	start := time.Now()
	for again, want := range map[time.Duration]time.Duration{
		time.Hour:     3608 * time.Second / 148,
		time.Hour + 1: 3608 * time.Second / 149,
	} {
		p := pacerOf(Limits{3, 150})
		p.RecordCall(start)
		p.RecordCall(start)
		p.RecordCall(start.Add(again - 20*time.Second)) // On pace, so that the next is ahead of it.
		p.RecordCall(start.Add(again))
		if _, pace := p.Next(start.Add(again)); pace != want {
			t.Errorf("a second call ahead after %s: a pace of %s, want %s", again, pace, want)
		}
	}
}

func TestUrgentCallsMayBurstAheadOfPace(t *testing.T) {
	p := pacerOf(Limits{10, 300})
	now := time.Now()
	for range 10 {
		if at := p.NextUrgent(now, 0); !at.Equal(now) {
			t.Errorf("a call of the burst is sent after %s", at.Sub(now))
		}
		p.RecordCall(now)
	}
	if at, want := p.NextUrgent(now, 0), now.Add(p.Pace()); !at.Equal(want) {
		t.Errorf("a call after the burst is sent after %s, want %s", at.Sub(now), want.Sub(now))
	}
}

func TestQuotaHasRoomUpToEachLimit(t *testing.T) {
	for _, test := range []struct {
		minute, hour int
		want         bool
	}{{9, 29, true}, {10, 29, false}, {9, 30, false}} {
		use := QuotaUse{MinuteCalls: test.minute, HourCalls: test.hour, Limits: Limits{10, 30}}
		if got := use.HasRoom(); got != test.want {
			t.Errorf("%d calls in the minute and %d in the hour: room %t", test.minute, test.hour, got)
		}
	}
}
