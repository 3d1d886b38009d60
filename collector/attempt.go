package collector

import (
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

// attempt is the stored state of a refresh that has not succeeded. After a crash, the
// program waits as long as it would have waited without one, so that a crash loop makes no
// more calls than one long run. A regular stop deletes the attempt, so that a restart after
// a fix refreshes immediately.
type attempt struct {
	Began time.Time `json:"began"`
	// Failures is the number of consecutive failures, including this one.
	Failures int `json:"failures"`
	// Next is when to refresh again, zero while the refresh is running.
	Next time.Time `json:"next,omitzero"`
}

func (r *Refresher) attemptKey() string { return r.options.Name + "_attempt" }

func (r *Refresher) saveAttempt(a attempt) { r.memory.Save(r.attemptKey(), a) }
func (r *Refresher) deleteAttempt()        { r.memory.Remove(r.attemptKey()) }

// resumeAttempt returns how long to wait because of the last run's attempt. It is zero if
// that refresh was interrupted after it had published values: newest is their time.
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
		// The refresh was interrupted, so count it as a failure that ended immediately.
		a.Next = a.Began.Add(client.RefreshRetry.Within(r.options.Interval()).After(a.Failures + 1))
	}
	wait := min(time.Until(a.Next), r.options.Interval())
	if finished && wait > 0 {
		r.publisher.Ready() // It has failed once.
	}
	r.update(func(s *Status) { s.ConsecutiveFailures = a.Failures })
	return wait
}
