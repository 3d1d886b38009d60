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
	// The Store of the Env keeps refreshes that have not succeeded; see Resume.
	Env
	// RefreshInterval is the pause after a refresh, with a jitter of 5 %. It also limits
	// the pauses after failures and the retries within one refresh. A Continuous refresh
	// is followed by a pause only if it failed as a whole.
	Schedule
	Collector  Collector
	Exposition *Exposition // Where the collector publishes.
	// After, if not nil, is the Started channel of another Refresher of the tenant, whose
	// collector shares values with this one. This one publishes its stored values after it.
	After <-chan struct{}
	// StartDelay is the pause before the first refresh, so that many tenants do not start
	// in the same second. Stored values are published before it.
	StartDelay time.Duration
	// Resume continues the schedule of the last run of the program, so that restarts do
	// not cost additional calls: the collector is ready, and the first refresh starts one
	// interval after the stored values were read. It is not for a collector that replaces
	// another one on a reload.
	Resume bool
}

// Refresher runs one Collector: it refreshes, waits, and refreshes again. Refreshes never
// overlap. It publishes the snapshot of a refresh and the metrics about it in one step, and
// logs each failure once.
type Refresher struct {
	options   RefresherOptions
	logger    *slog.Logger
	memory    Memory
	publisher *Publisher
	started   chan struct{}
	startOnce sync.Once // Closes started.

	cancel  context.CancelFunc // Nil before Go.
	running sync.WaitGroup

	mu     sync.Mutex
	status Status
}

// Status is the status of a collector for a page. Zero times mean never or unknown.
type Status struct {
	// Ready is the result of Refresher.Ready.
	Ready bool
	// Running reports whether a refresh is running. Started is when the last one started.
	Running bool
	Started time.Time
	// Finished, Duration, Error and Reason describe the last refresh. Error and Reason are
	// empty if it succeeded.
	Finished time.Time
	Duration time.Duration
	Error    string
	Reason   client.Reason
	// Failure explains Error. FailingSince is when the first of the consecutive failures
	// ended.
	Failure      Failure
	FailingSince time.Time
	// LastSuccess is the time of the oldest values, as in Snapshot.At. They may be from an
	// earlier run of the program.
	LastSuccess time.Time
	// Next is when the next refresh starts.
	Next time.Time
	// Refreshes is the number of finished refreshes, Failures the number of failed ones.
	Refreshes, Failures int
	// ConsecutiveFailures is 0 after a success.
	ConsecutiveFailures int
	Page                Page
}

// NewRefresher returns a Refresher. It has no effect until Run, Go or Once.
func NewRefresher(o RefresherOptions) *Refresher {
	return &Refresher{
		options:   o,
		logger:    o.Log(),
		memory:    o.Memory(),
		publisher: o.Exposition.Publisher(o.Tenant, o.Name),
		started:   make(chan struct{}),
	}
}

// Run refreshes until the context ends and the current refresh has returned. A refresh
// that is interrupted by the context does not count as a failure. After Run has returned,
// the collector cannot change what is exposed.
func (r *Refresher) Run(ctx context.Context) {
	defer r.publisher.Close()
	if r.options.After != nil {
		select {
		case <-r.options.After:
		case <-ctx.Done():
			return
		}
	}
	delay, newest := r.start(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() { r.options.Collector.Follow(ctx) })
	delay = max(delay, r.resumeAttempt(newest))
	defer r.deleteAttempt()
	if !r.wait(ctx, delay) {
		return
	}
	for {
		a := attempt{Began: time.Now(), Failures: r.failures() + 1}
		r.saveAttempt(a)
		outcome, err := r.refresh(ctx)
		pause := r.pause(outcome, err)
		if err == nil || outcome.Partial {
			r.deleteAttempt()
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

// Stop ends Run and waits until it has returned.
func (r *Refresher) Stop() {
	if r.cancel != nil {
		r.cancel()
		r.running.Wait()
	}
}

// Started returns a channel that is closed when the collector has published its stored
// values. From then on a scrape shows no values of the instance that it replaces.
func (r *Refresher) Started() <-chan struct{} { return r.started }

// Once refreshes until nothing is pending and returns the error of the last refresh.
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

// Ready reports whether the collector exposes values or has failed once. A failure in the
// last run of the program counts while its pause lasts.
func (r *Refresher) Ready() bool { return r.publisher.ready.Load() }

// Status returns the current status. It never waits for a refresh.
func (r *Refresher) Status() Status {
	page, ready, at := r.options.Collector.Page(), r.Ready(), r.publisher.at()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	s.Page, s.Ready, s.LastSuccess = page, ready, at
	return s
}

// start publishes the stored values. It returns the pause before the first refresh and the
// time at which the newest of the values was read.
func (r *Refresher) start(ctx context.Context) (delay time.Duration, newest time.Time) {
	r.publisher.begin(r.options.Interval())
	newest = r.options.Collector.Start(ctx, r.publisher)
	r.startOnce.Do(func() { close(r.started) })
	age := time.Since(r.publisher.at()) // Centuries where there are no values.
	if r.options.Resume && !r.options.Continuous && age >= 0 {
		return max(r.options.StartDelay, r.options.Interval()-age), newest
	}
	return r.options.StartDelay, newest
}

// refresh runs the collector once and publishes the result.
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

// pause returns the pause after a refresh. After failures it increases up to the interval.
// It is at least client.MinDeniedPause after denied access, and at least RetryAfter, but
// never longer than the interval.
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

// failures returns the number of consecutive failures.
func (r *Refresher) failures() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status.ConsecutiveFailures
}

// wait waits for d. It returns false if the context ended.
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
