package collector

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

// RefresherOptions configure a Refresher.
type RefresherOptions struct {
	// Of the Env, the Store keeps a refresh that has not succeeded; see Resume.
	Env
	// The RefreshInterval is waited, give or take a twentieth, after a refresh has
	// ended. It also bounds the pauses after failures and the retries of the calls
	// of one refresh. Where refreshes are Continuous, a failure that concerns the
	// tenant as a whole is followed by a pause all the same.
	Schedule
	Collector  Collector
	Exposition *Exposition // Where the collector publishes.
	// StartDelay is waited before the first refresh, so that many tenants do
	// not start in the same second. Stored values are published before.
	StartDelay time.Duration
	// Resume makes stored values stand for a refresh of this run, so that one
	// restart after the other costs no more calls than none: the collector is
	// ready, and the first refresh comes an interval after the values. It is
	// not for a collector that replaces another at once, as on a reload.
	Resume bool
}

// Refresher runs one Collector: refresh, then wait; never two at a time. It
// publishes what the collector returns and how the refresh ended in one step,
// and logs each failure once.
type Refresher struct {
	options   RefresherOptions
	logger    *slog.Logger
	memory    Memory
	publisher *Publisher
	started   chan struct{}
	mark      sync.Once // Closes started.

	cancel  context.CancelFunc // Nil before Go.
	running sync.WaitGroup

	mu     sync.Mutex
	status Status
}

// Status is how a collector stands, for a page. Zero times mean never or not known.
type Status struct {
	// Ready is as Refresher.Ready reports it.
	Ready bool
	// Running is true while a refresh is under way, since Started.
	Running bool
	Started time.Time
	// Finished, Duration and Error are of the last refresh; Error is empty
	// where it succeeded and Reason then means nothing.
	Finished time.Time
	Duration time.Duration
	Error    string
	Reason   client.Reason
	// Failure explains Error, FailingSince is when the first failure in a row ended.
	Failure      Failure
	FailingSince time.Time
	// LastSuccess is how old the values are at worst, as a scrape shows it. They
	// may be of an earlier run of the program.
	LastSuccess time.Time
	// Next is when the next refresh starts.
	Next time.Time
	// Refreshes are those that finished, Failures those of them that failed.
	Refreshes, Failures int
	// ConsecutiveFailures is 0 after a success.
	ConsecutiveFailures int
	Page                Page
}

// NewRefresher returns a Refresher; nothing happens until Run or Once.
func NewRefresher(o RefresherOptions) *Refresher {
	return &Refresher{
		options:   o,
		logger:    o.Log(),
		memory:    o.Memory(),
		publisher: o.Exposition.Publisher(o.Tenant, o.Name),
		started:   make(chan struct{}),
	}
}

// Run refreshes until the context ends, and returns when the refresh under way
// has. A refresh that the end of the context cuts off is no failure. What the
// collector does after Run has returned changes nothing that is exposed.
func (r *Refresher) Run(ctx context.Context) {
	defer r.publisher.Close()
	delay, newest := r.start(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() { r.options.Collector.Follow(ctx) })
	delay = max(delay, r.resumeAttempt(newest))
	defer r.forgetAttempt()
	if !r.wait(ctx, delay) {
		return
	}
	for {
		a := attempt{Began: time.Now(), Failures: r.failures() + 1}
		r.saveAttempt(a)
		outcome, err := r.refresh(ctx)
		pause := r.pause(outcome, err)
		if err == nil || outcome.Partial {
			r.forgetAttempt()
		} else {
			a.Next = time.Now().Add(pause)
			r.saveAttempt(a)
		}
		if !r.wait(ctx, pause) {
			return
		}
	}
}

// Go calls Run in a goroutine, unless it was called before. It must not be called
// concurrently with itself or Stop.
func (r *Refresher) Go() {
	if r.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.running.Go(func() { r.Run(ctx) })
}

// Stop ends Run and returns when it has.
func (r *Refresher) Stop() {
	if r.cancel != nil {
		r.cancel()
		r.running.Wait()
	}
}

// Started is closed once the collector has published what it begins with. From
// then on a scrape shows nothing of the instance that it replaces.
func (r *Refresher) Started() <-chan struct{} { return r.started }

// Once refreshes one time, or as many times as it takes until nothing is pending,
// and returns the error of the last one.
func (r *Refresher) Once(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.start(ctx)
	for {
		outcome, err := r.refresh(ctx)
		if !outcome.Pending || !r.wait(ctx, r.pause(outcome, err)) {
			return err
		}
	}
}

// Withdraw removes every series of the collector, which has no successor. Run
// must have returned.
func (r *Refresher) Withdraw() { r.publisher.Withdraw() }

// Ready reports whether the collector has something to show or has failed once,
// in the last run of the program where a failure of it is still waited out.
func (r *Refresher) Ready() bool { return r.publisher.ready.Load() }

// Status returns how the collector stands. It never waits for a refresh.
func (r *Refresher) Status() Status {
	page, ready, at := r.options.Collector.Page(), r.Ready(), r.publisher.at()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	s.Page, s.Ready, s.LastSuccess = page, ready, at
	return s
}

// start publishes the stored values and returns how long to wait for the first
// refresh, and when the newest of the values was read.
func (r *Refresher) start(ctx context.Context) (delay time.Duration, newest time.Time) {
	r.publisher.begin(r.options.Interval())
	newest = r.options.Collector.Start(ctx, r.publisher)
	r.mark.Do(func() { close(r.started) })
	age := time.Since(r.publisher.at()) // Centuries where there are no values.
	if r.options.Resume && !r.options.Continuous && age >= 0 {
		return max(r.options.StartDelay, r.options.Interval()-age), newest
	}
	return r.options.StartDelay, newest
}

// refresh runs the collector once and publishes how it went.
func (r *Refresher) refresh(ctx context.Context) (Outcome, error) {
	start := time.Now()
	r.update(func(s *Status) { s.Running, s.Started, s.Next = true, Wall(start), time.Time{} })
	outcome, err := r.options.Collector.Refresh(client.WithRetryDeadline(ctx, start.Add(r.options.Interval())))
	end := time.Now()
	if err != nil && ctx.Err() != nil {
		r.update(func(s *Status) { s.Running = false })
		return outcome, err
	}
	duration := end.Sub(start)
	switch {
	case err != nil:
		r.publisher.failed(err, duration)
		r.publisher.Ready()
	case outcome.Pending:
		r.publisher.pending()
	default:
		r.publisher.succeeded(outcome.Snapshot, duration)
		r.publisher.Ready()
	}
	var before Status
	r.update(func(s *Status) {
		before = *s
		s.Running, s.Finished, s.Duration = false, Wall(end), duration
		switch {
		case err != nil:
			s.Refreshes++
			s.Failures++
			s.ConsecutiveFailures++
			s.Error, s.Reason, s.Failure = err.Error(), client.ReasonOf(err), explain(err, r.options.Tenant)
			if s.ConsecutiveFailures == 1 {
				s.FailingSince = Wall(end)
			}
			return
		case !outcome.Pending:
			s.Refreshes++
		}
		s.ConsecutiveFailures = 0
		s.Error, s.Reason, s.Failure, s.FailingSince = "", "", Failure{}, time.Time{}
	})
	r.log(before, outcome, duration, err)
	return outcome, err
}

// log reports every failure, and the first success after the start or after a
// failure; other successes are logged at debug level.
func (r *Refresher) log(before Status, outcome Outcome, duration time.Duration, err error) {
	switch {
	case err != nil:
		r.logger.Error("Refresh failed", "reason", client.ReasonOf(err), "duration", duration, "err", err)
	case outcome.Pending:
		r.logger.Debug("Refresh pending", "duration", duration)
	case before.ConsecutiveFailures > 0:
		r.logger.Info("Refresh succeeded again", "duration", duration, "failures", before.ConsecutiveFailures)
	case before.Refreshes == 0:
		r.logger.Info("First refresh succeeded", "duration", duration)
	default:
		r.logger.Debug("Refresh succeeded", "duration", duration)
	}
}

// pause returns how long to wait after a refresh. After failures it grows up to
// the interval; what a person must fix is asked for once in client.MinDeniedPause at most,
// and what the service asked to wait is waited.
func (r *Refresher) pause(outcome Outcome, err error) time.Duration {
	interval := r.options.Interval()
	if r.options.Continuous && (err == nil || outcome.Partial) {
		return 0
	}
	if err == nil {
		return client.RefreshSpread.Spread(interval)
	}
	pause := client.RefreshRetry.Within(interval).After(r.failures())
	if reason := client.ReasonOf(err); reason == client.ReasonAuth || reason == client.ReasonForbidden {
		pause = max(pause, client.MinDeniedPause)
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		pause = max(pause, e.RetryAfter)
	}
	return min(pause, interval)
}

// failures are those in a row since the last success.
func (r *Refresher) failures() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status.ConsecutiveFailures
}

// wait reports false when the context ended.
func (r *Refresher) wait(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	r.update(func(s *Status) { s.Next = Wall(time.Now().Add(d)) })
	return client.Sleep(ctx, d) == nil
}

func (r *Refresher) update(f func(*Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.status)
}
