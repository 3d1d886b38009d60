package collector

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

// RefresherOptions configure a Refresher.
type RefresherOptions struct {
	// Tenant, Collector, Interval, Metrics and Logger are required. The Logger
	// gets the tenant and the collector from the Refresher.
	Tenant    string
	Collector Collector
	// Interval is how long to wait, give or take a twentieth, after a refresh
	// has ended. It also bounds the pauses after failures and the retries of
	// the calls of one refresh.
	Interval time.Duration
	// Continuous starts the next refresh as soon as one has ended: the
	// collector itself spreads its calls over the interval. A failure that
	// concerns the tenant as a whole is followed by a pause all the same.
	Continuous bool
	// StartDelay is waited before the first refresh, so that many tenants do
	// not start in the same second. Stored values are published before.
	StartDelay time.Duration
	// Resume makes stored values stand for a refresh of this run, so that one
	// restart after the other costs no more calls than none: the collector is
	// ready, and the first refresh comes an interval after the values. It is
	// not for a collector that replaces another at once, as on a reload.
	Resume bool
	// Store keeps a refresh that has not succeeded across restarts; see Resume.
	// Nil means none does.
	Store   Store
	Metrics *TenantMetrics
	Logger  *slog.Logger
}

// Refresher runs one Collector: refresh, then wait; never two at a time. It
// writes the metrics about refreshes and logs each failure once.
type Refresher struct {
	options RefresherOptions
	logger  *slog.Logger
	memory  memory

	mu     sync.Mutex
	status Status
}

// Status is how a collector stands, for a page. Zero times mean never or not known.
type Status struct {
	Tenant, Collector string
	Interval          time.Duration
	// Running tells that a refresh is under way, since Started.
	Running bool
	Started time.Time
	// Finished, Duration and Error are of the last refresh; Error is empty
	// where it succeeded and Reason then means nothing.
	Finished time.Time
	Duration time.Duration
	Error    string
	Reason   client.Reason
	// Resumed tells that stored values, or a failure of the last run, stand for a
	// first refresh.
	Resumed bool
	// LastSuccess may be of an earlier run of the program.
	LastSuccess time.Time
	// Next is when the next refresh starts.
	Next time.Time
	// Refreshes are those that finished, Failures those of them that failed.
	Refreshes, Failures int
	// ConsecutiveFailures is 0 after a success.
	ConsecutiveFailures int
	// Notes tell what is limited and how to mend it.
	Notes []string
}

// NewRefresher returns a Refresher; nothing happens until Run or Once.
func NewRefresher(o RefresherOptions) *Refresher {
	logger := o.Logger.With("tenant", o.Tenant, "collector", o.Collector.Name())
	return &Refresher{
		options: o,
		logger:  logger,
		memory:  newMemory(o.Store, logger),
		status:  Status{Tenant: o.Tenant, Collector: o.Collector.Name(), Interval: o.Interval},
	}
}

// Run refreshes until the context ends, and returns when the refresh under way
// has. A refresh that the end of the context cuts off is no failure.
func (r *Refresher) Run(ctx context.Context) {
	delay := r.start(ctx)
	delay = max(delay, r.resumeAttempt())
	defer r.forgetAttempt()
	if !r.wait(ctx, delay) {
		return
	}
	for {
		a := attempt{Began: time.Now(), Failures: r.Status().ConsecutiveFailures + 1}
		r.noteAttempt(a)
		err := r.refresh(ctx)
		pause := r.pause(err)
		if _, partial := errors.AsType[partialError](err); err == nil || partial {
			r.forgetAttempt()
		} else {
			a.Next = time.Now().Add(pause)
			r.noteAttempt(a)
		}
		if !r.wait(ctx, pause) {
			return
		}
	}
}

// Once refreshes one time and returns what Refresh did.
func (r *Refresher) Once(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.start(ctx)
	return r.refresh(ctx)
}

// Ready reports whether a refresh has finished, well or badly, or stored values
// stand for one.
func (r *Refresher) Ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status.Refreshes > 0 || r.status.Resumed
}

// Status returns how the collector stands. It never waits for a refresh.
func (r *Refresher) Status() Status {
	notes := r.options.Collector.Notes()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	s.Notes = notes
	return s
}

// start publishes the stored values and returns how long to wait for the first
// refresh.
func (r *Refresher) start(ctx context.Context) time.Duration {
	last := r.options.Collector.Start(ctx)
	r.options.Metrics.refreshStarts(r.status.Collector, r.options.Interval, last)
	age := time.Since(last)
	resumed := r.options.Resume && !last.IsZero() && age >= 0 && age < r.options.Interval
	r.update(func(s *Status) { s.LastSuccess, s.Resumed = last, resumed })
	if resumed && !r.options.Continuous {
		return max(r.options.StartDelay, r.options.Interval-age)
	}
	return r.options.StartDelay
}

// refresh runs the collector once and notes how it went.
func (r *Refresher) refresh(ctx context.Context) error {
	start := time.Now()
	r.update(func(s *Status) { s.Running, s.Started, s.Next = true, start, time.Time{} })
	err := r.options.Collector.Refresh(client.WithRetryDeadline(ctx, start.Add(r.options.Interval)))
	end := time.Now()
	if err != nil && ctx.Err() != nil {
		r.update(func(s *Status) { s.Running = false })
		return err
	}
	duration, success := end.Sub(start), end
	if c, ok := r.options.Collector.(dated); ok && err == nil {
		success = c.collected()
	}
	r.options.Metrics.refreshed(r.status.Collector, success, duration, err)
	var before Status
	r.update(func(s *Status) {
		before = *s
		s.Running, s.Finished, s.Duration = false, end, duration
		s.Refreshes++
		if err != nil {
			s.Failures++
			s.ConsecutiveFailures++
			s.Error, s.Reason = err.Error(), client.ReasonOf(err)
			return
		}
		s.ConsecutiveFailures = 0
		s.Error, s.Reason = "", ""
		s.LastSuccess = success
	})
	r.log(before, duration, err)
	return err
}

// dated is a Collector that knows when it collected its values, to the time that
// it stores and that Start returns after a restart. Of others the end of the
// refresh counts.
type dated interface{ collected() time.Time }

// log tells of every failure and of the first success after the start or after
// a failure; other successes are for those who debug.
func (r *Refresher) log(before Status, duration time.Duration, err error) {
	switch {
	case err != nil:
		r.logger.Error("Refresh failed", "reason", client.ReasonOf(err), "duration", duration, "err", err)
	case before.ConsecutiveFailures > 0:
		r.logger.Info("Refresh succeeded again", "duration", duration, "failures", before.ConsecutiveFailures)
	case before.Refreshes == 0:
		r.logger.Info("First refresh succeeded", "duration", duration)
	default:
		r.logger.Debug("Refresh succeeded", "duration", duration)
	}
}

// partialError is the failure of a part of a refresh, such as one domain of
// many. A continuous collector tries that part again by its own schedule.
type partialError struct{ error }

func (e partialError) Unwrap() error { return e.error }

const (
	firstPause   = 15 * time.Second
	minAuthPause = time.Minute
)

// pause returns how long to wait after a refresh. After failures it grows from
// firstPause to the interval; nothing that a person must mend is asked for more
// than once a minute, and what the service asked to wait is waited.
func (r *Refresher) pause(err error) time.Duration {
	interval := r.options.Interval
	if _, partial := errors.AsType[partialError](err); r.options.Continuous && (err == nil || partial) {
		return 0
	}
	if err == nil {
		return jitter(interval, 0.05)
	}
	r.mu.Lock()
	failures := r.status.ConsecutiveFailures
	r.mu.Unlock()
	pause := jitter(failurePause(failures, interval), 0.25)
	if reason := client.ReasonOf(err); reason == client.ReasonAuth || reason == client.ReasonForbidden {
		pause = max(pause, minAuthPause)
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		pause = max(pause, e.RetryAfter)
	}
	return min(pause, interval)
}

// failurePause grows with the failures in a row.
func failurePause(failures int, interval time.Duration) time.Duration {
	return min(firstPause<<min(max(failures-1, 0), 20), interval)
}

// jitter returns d give or take the share, so that those who start together do
// not stay together.
func jitter(d time.Duration, share float64) time.Duration {
	return time.Duration(float64(d) * (1 + share*(2*rand.Float64()-1)))
}

// wait reports false when the context ended.
func (r *Refresher) wait(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	if d <= 0 {
		return true
	}
	r.update(func(s *Status) { s.Next = time.Now().Add(d) })
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *Refresher) update(f func(*Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.status)
}
