package collector

import (
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

// attempt is a refresh that began and has not succeeded, as it is stored: a
// program that is killed amid it, or after it failed, waits at its next start as
// it would have waited had it gone on. So a crash loop costs no more calls than
// one long run while the service fails or hangs, too. A program that is asked to
// stop forgets it: who fixed something restarts the program and is not kept waiting.
type attempt struct {
	Began time.Time `json:"began"`
	// Failures are those in a row, this one included.
	Failures int `json:"failures"`
	// Next is when to try again, zero while the refresh is under way.
	Next time.Time `json:"next,omitzero"`
}

func (r *Refresher) attemptKey() string { return r.options.Name + "_attempt" }

func (r *Refresher) saveAttempt(a attempt) { r.memory.Save(r.attemptKey(), a) }
func (r *Refresher) forgetAttempt()        { r.memory.Remove(r.attemptKey()) }

// resumeAttempt returns how long to wait because of the last run's attempt: not
// at all where that had published a part, the newest at that time, when it was cut off.
func (r *Refresher) resumeAttempt(newest time.Time) time.Duration {
	var a attempt
	if !r.options.Resume || !r.memory.Load(r.attemptKey(), &a) || a.Failures < 1 || CheckTime(a.Began) != nil {
		return 0
	}
	if a.Next.IsZero() && newest.After(a.Began) {
		return 0
	}
	finished := !a.Next.IsZero()
	if !finished {
		// Nobody knows how long it would have taken: the next pause stands for that, too.
		a.Next = a.Began.Add(client.RefreshRetry.Within(r.options.Interval()).After(a.Failures + 1))
	}
	wait := min(time.Until(a.Next), r.options.Interval())
	if finished && wait > 0 {
		r.publisher.Ready() // It has failed once.
	}
	r.update(func(s *Status) { s.ConsecutiveFailures = a.Failures })
	return wait
}
