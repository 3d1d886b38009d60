package collector

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
)

// scriptedCollector is a Collector whose refreshes are a function of the test.
type scriptedCollector struct {
	name    string
	last    time.Time
	refresh func(ctx context.Context, n int) error
	starts  []time.Time
	running bool
	overlap bool
}

func (s *scriptedCollector) Name() string           { return s.name }
func (s *scriptedCollector) Follow(context.Context) {}
func (s *scriptedCollector) Reloaded()              {}
func (s *scriptedCollector) Page() Page             { return Page{Notes: []string{"a note"}} }
func (s *scriptedCollector) Start(_ context.Context, p *Publisher) time.Time {
	if !s.last.IsZero() {
		p.Publish(Snapshot{At: s.last})
	}
	return s.last
}
func (s *scriptedCollector) Refresh(ctx context.Context) (Outcome, error) {
	s.overlap = s.overlap || s.running
	s.running = true
	defer func() { s.running = false }()
	s.starts = append(s.starts, time.Now())
	err := s.refresh(ctx, len(s.starts))
	return Outcome{Snapshot: &Snapshot{At: time.Now()}}, err
}

// pauses returns the times between the starts of refreshes.
func (s *scriptedCollector) pauses() []time.Duration {
	var pauses []time.Duration
	for i := 1; i < len(s.starts); i++ {
		pauses = append(pauses, s.starts[i].Sub(s.starts[i-1]))
	}
	return pauses
}

func TestRefreshesFollowInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestEnv()
		c := &scriptedCollector{name: "security_states", refresh: func(context.Context, int) error {
			time.Sleep(time.Minute)
			return nil
		}}
		runFor(t, w.refresher(c, 10*time.Minute), 3*time.Hour)
		if len(c.starts) < 16 || len(c.starts) > 17 || c.overlap {
			t.Errorf("%d refreshes, overlap %v", len(c.starts), c.overlap)
		}
		for _, pause := range c.pauses() {
			if pause < 10*time.Minute+30*time.Second || pause > 11*time.Minute+30*time.Second {
				t.Errorf("started again after %s: want 11 minutes with a jitter of 30 seconds", pause)
			}
		}
		if n := strings.Count(w.log.String(), "\n"); n != 1 {
			t.Errorf("%d log lines for successful refreshes, want 1:\n%s", n, w.log)
		}
	})
}

func TestLongRefreshesDoNotOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestEnv()
		c := &scriptedCollector{name: "security_states", refresh: func(context.Context, int) error {
			time.Sleep(time.Hour)
			return nil
		}}
		runFor(t, w.refresher(c, time.Minute), 5*time.Hour)
		if len(c.starts) != 5 || c.overlap {
			t.Errorf("%d refreshes, overlap %v", len(c.starts), c.overlap)
		}
	})
}

func TestFailuresBackOffUpToInterval(t *testing.T) {
	for name, tc := range map[string]struct {
		err      error
		min, max []time.Duration // Of the first pauses; the last one repeats.
	}{
		"a temporary error": {
			&client.Error{API: client.Machines, Reason: client.ReasonServer, Status: 500},
			[]time.Duration{11 * time.Second, 22 * time.Second, 45 * time.Second, 90 * time.Second, 180 * time.Second, 6 * time.Minute},
			[]time.Duration{19 * time.Second, 38 * time.Second, 75 * time.Second, 150 * time.Second, 5 * time.Minute, 10 * time.Minute},
		},
		"a wrong secret": {
			&client.Error{API: client.Token, Reason: client.ReasonAuth, Status: 401},
			[]time.Duration{time.Minute, time.Minute, time.Minute, 90 * time.Second, 180 * time.Second, 6 * time.Minute},
			[]time.Duration{time.Minute, time.Minute, 75 * time.Second, 150 * time.Second, 5 * time.Minute, 10 * time.Minute},
		},
		"a missing role": {
			&client.Error{API: client.Machines, Reason: client.ReasonForbidden, Status: 403},
			[]time.Duration{time.Minute, time.Minute, time.Minute, 90 * time.Second, 180 * time.Second, 6 * time.Minute},
			[]time.Duration{time.Minute, time.Minute, 75 * time.Second, 150 * time.Second, 5 * time.Minute, 10 * time.Minute},
		},
		"a service that asks to wait": {
			&client.Error{API: client.Machines, Reason: client.ReasonThrottled, Status: 429, RetryAfter: 5 * time.Minute},
			[]time.Duration{5 * time.Minute},
			[]time.Duration{10 * time.Minute},
		},
		"a service that asks to wait beyond the interval": {
			&client.Error{API: client.Machines, Reason: client.ReasonThrottled, Status: 429, RetryAfter: time.Hour},
			[]time.Duration{10 * time.Minute},
			[]time.Duration{10 * time.Minute},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTestEnv()
				c := &scriptedCollector{name: "security_states", refresh: func(context.Context, int) error { return tc.err }}
				runFor(t, w.refresher(c, 10*time.Minute), 119*time.Minute)
				for i, pause := range c.pauses() {
					low, high := tc.min[min(i, len(tc.min)-1)], tc.max[min(i, len(tc.max)-1)]
					if pause < low || pause > high {
						t.Errorf("pause %d is %s, want %s to %s", i+1, pause, low, high)
					}
				}
				if n := strings.Count(w.log.String(), "Refresh failed"); n != len(c.starts) {
					t.Errorf("%d failures are logged %d times", len(c.starts), n)
				}
				if !strings.Contains(w.log.String(), "tenant=contoso collector=security_states reason="+string(client.ReasonOf(tc.err))) {
					t.Errorf("log:\n%s", w.log)
				}
			})
		})
	}
}

func TestAuthPauseDoesNotExceedInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestEnv()
		c := &scriptedCollector{name: "security_states", refresh: func(context.Context, int) error {
			return &client.Error{API: client.Token, Reason: client.ReasonAuth}
		}}
		runFor(t, w.refresher(c, 20*time.Second), time.Minute+time.Second)
		if len(c.starts) != 4 {
			t.Errorf("%d refreshes in a minute at an interval of 20 seconds", len(c.starts))
		}
	})
}

func TestRefreshMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestEnv()
		c := &scriptedCollector{name: "security_states", refresh: func(_ context.Context, n int) error {
			time.Sleep(2 * time.Second)
			if n == 2 {
				return &client.Error{API: client.Machines, Reason: client.ReasonDecode}
			}
			return nil
		}}
		r := w.refresher(c, 10*time.Minute)
		metric := func(name string) string {
			return value(w.scrape(t), name)
		}
		const labels = `{collector="security_states",tenant="contoso"}`
		check := func(when string, want map[string]string) {
			t.Helper()
			for name, value := range want {
				if got := metric(name); got != value {
					t.Errorf("%s %s is %q, want %q", when, name, got, value)
				}
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.Run(ctx) }()
		start := time.Now()
		synctest.Wait()
		check("before the first refresh has finished", map[string]string{
			"mde_refresh_success" + labels:                                                              "",
			"mde_refresh_last_success_timestamp_seconds" + labels:                                       "",
			"mde_refreshes_total" + labels:                                                              "0",
			"mde_refresh_duration_seconds" + labels:                                                     "",
			`mde_refresh_failures_total{collector="security_states",reason="auth",tenant="contoso"}`:    "0",
			`mde_refresh_failures_total{collector="security_states",reason="network",tenant="contoso"}`: "0",
			"mde_refresh_interval_seconds" + labels:                                                     "600",
		})
		if r.Ready() || !r.Status().Running {
			t.Errorf("ready %v, status %+v", r.Ready(), r.Status())
		}
		time.Sleep(3 * time.Second)
		success := w.scrape(t)
		check("after the first", map[string]string{
			"mde_refresh_success" + labels:          "1",
			"mde_refresh_duration_seconds" + labels: "2",
			"mde_refreshes_total" + labels:          "1",
		})
		s := r.Status()
		if !r.Ready() || s.Running || s.LastSuccess != start.Add(2*time.Second) || s.Error != "" || s.Next.Before(start.Add(9*time.Minute)) || len(s.Page.Notes) != 1 {
			t.Errorf("ready %v, status %+v", r.Ready(), s)
		}
		for r.Status().Refreshes < 2 {
			time.Sleep(time.Second)
		}
		check("after the second, a failure,", map[string]string{
			"mde_refresh_success" + labels:                                                             "0",
			"mde_refresh_last_success_timestamp_seconds" + labels:                                      value(success, "mde_refresh_last_success_timestamp_seconds"+labels),
			"mde_refreshes_total" + labels:                                                             "2",
			`mde_refresh_failures_total{collector="security_states",reason="decode",tenant="contoso"}`: "1",
		})
		cancel()
		<-done
	})
}

func TestRefreshInterruptedByShutdownIsNotAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestEnv()
		c := &scriptedCollector{name: "security_states", refresh: func(ctx context.Context, _ int) error {
			<-ctx.Done()
			return &client.Error{API: client.Machines, Reason: client.ReasonNetwork, Err: ctx.Err()}
		}}
		r := w.refresher(c, 10*time.Minute)
		runFor(t, r, time.Minute)
		if s := r.Status(); s.Failures != 0 || s.Refreshes != 0 || s.Running || w.log.String() != "" {
			t.Errorf("status %+v, log %q", s, w.log)
		}
	})
}

func TestRunEndsImmediatelyDuringEveryPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, after := range []time.Duration{0, time.Second, 31 * time.Second, 10 * time.Minute} {
			w := newTestEnv()
			c := &scriptedCollector{name: "security_states", refresh: func(context.Context, int) error { return errors.New("no") }}
			r := w.refresher(c, time.Hour)
			r.options.StartDelay = 30 * time.Second
			start := time.Now()
			runFor(t, r, after)
			if took := time.Since(start); took != after {
				t.Errorf("stopped after %s it took %s", after, took)
			}
		}
	})
}

func TestCrashLoopMakesNoMoreRefreshesThanOneLongRun(t *testing.T) {
	fault := &client.Error{API: client.Machines, Reason: client.ReasonThrottled, Status: 429, RetryAfter: 5 * time.Minute}
	for name, refresh := range map[string]func(context.Context, int) error{
		"with a service that asks to wait": func(context.Context, int) error { return fault },
		"with a service that fails": func(context.Context, int) error {
			return &client.Error{API: client.Machines, Reason: client.ReasonServer, Status: 500}
		},
		"with a service that hangs": func(ctx context.Context, _ int) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Minute):
				return &client.Error{API: client.Machines, Reason: client.ReasonTimeout}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				starts := func(store *memoryStore, runs int, each time.Duration) int {
					n := 0
					for range runs {
						w := newTestEnv()
						c := &scriptedCollector{name: "security_states", refresh: refresh}
						r := NewRefresher(RefresherOptions{
							Env:       Env{Tenant: "contoso", Name: nameOf(c), Store: store.untilKilled(each), Logger: w.logger},
							Schedule:  Schedule{RefreshInterval: model.Duration(10 * time.Minute)},
							Collector: c, Resume: true, Exposition: w.exposition,
						})
						runFor(t, r, each)
						n += len(c.starts)
					}
					return n
				}
				long := starts(&memoryStore{}, 1, time.Hour)
				// Because of jitter, the numbers may differ by one.
				if loop := starts(&memoryStore{}, 500, 7*time.Second+time.Millisecond); loop > long+1 || loop < 2 {
					t.Errorf("500 runs of 7 seconds made %d refreshes, one run of an hour %d", loop, long)
				}
			})
		})
	}
}

func TestRestartAfterStopRefreshesImmediately(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memoryStore{}
		for range 3 {
			w := newTestEnv()
			c := &scriptedCollector{name: "security_states", refresh: func(context.Context, int) error {
				return &client.Error{API: client.Token, Reason: client.ReasonAuth, Status: 401}
			}}
			r := NewRefresher(RefresherOptions{
				Env:       Env{Tenant: "contoso", Name: nameOf(c), Store: store, Logger: w.logger},
				Schedule:  Schedule{RefreshInterval: model.Duration(10 * time.Minute)},
				Collector: c, Resume: true, Exposition: w.exposition,
			})
			runFor(t, r, time.Second)
			if len(c.starts) != 1 || !r.Ready() {
				t.Errorf("%d refreshes, ready %v", len(c.starts), r.Ready())
			}
		}
	})
}

func TestStartWaitsForTheCollectorBefore(t *testing.T) {
	for name, stops := range map[string]bool{"until it has started": false, "until the run is stopped": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTestEnv()
				c := &scriptedCollector{name: "security_states", last: time.Now(), refresh: func(context.Context, int) error { return nil }}
				r, before := w.refresher(c, time.Hour), make(chan struct{})
				r.options.After = before
				r.Go()
				defer r.Stop()
				time.Sleep(time.Minute)
				if s := r.Status(); !s.LastSuccess.IsZero() || len(c.starts) > 0 {
					t.Errorf("before: last success %s, %d refreshes", s.LastSuccess, len(c.starts))
				}
				if stops {
					r.Stop()
				}
				close(before)
				time.Sleep(time.Minute)
				if s := r.Status(); s.LastSuccess.IsZero() != stops || (len(c.starts) == 0) != stops {
					t.Errorf("after: last success %s, %d refreshes", s.LastSuccess, len(c.starts))
				}
			})
		})
	}
}

func TestStoredValuesArePublishedBeforeStartDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestEnv()
		last := time.Now().Add(-time.Hour)
		c := &scriptedCollector{name: "security_states", last: last, refresh: func(context.Context, int) error { return nil }}
		r := w.refresher(c, time.Hour)
		r.options.StartDelay = 40 * time.Second
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.Run(ctx)
		time.Sleep(time.Second)
		if s := r.Status(); !s.LastSuccess.Equal(last) || !s.Next.Equal(start.Add(40*time.Second)) {
			t.Errorf("status %+v", s)
		}
		if got := value(w.scrape(t), `mde_refresh_last_success_timestamp_seconds{collector="security_states",tenant="contoso"}`); got == "" {
			t.Error("the time of the stored values is not exposed")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(c.starts) != 1 || c.starts[0].Sub(start) != 40*time.Second {
			t.Errorf("starts %v", c.starts)
		}
	})
}

func TestRestartRefreshesWhenStoredValuesAreDue(t *testing.T) {
	for name, tc := range map[string]struct {
		age    time.Duration
		resume bool
		delay  time.Duration
		want   time.Duration
	}{
		"within the interval":           {20 * time.Minute, true, time.Second, 40 * time.Minute},
		"soon, but others start before": {59 * time.Minute, true, 2 * time.Minute, 2 * time.Minute},
		"older than the interval":       {time.Hour, true, time.Second, time.Second},
		"of the future":                 {-20 * time.Minute, true, time.Second, time.Second},
		"of a collector on a reload":    {20 * time.Minute, false, time.Second, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, start := newTestEnv(), time.Now()
				c := &scriptedCollector{name: "security_states", last: start.Add(-tc.age), refresh: func(context.Context, int) error { return nil }}
				r := w.refresher(c, time.Hour)
				r.options.StartDelay, r.options.Resume = tc.delay, tc.resume
				runFor(t, r, 50*time.Minute)
				if len(c.starts) != 1 || c.starts[0].Sub(start) != tc.want {
					t.Errorf("refreshes at %v, want one after %v", c.starts, tc.want)
				}
			})
		})
	}
}

func TestOnceReturnsRefreshError(t *testing.T) {
	want := errors.New("scripted error")
	w := newTestEnv()
	c := &scriptedCollector{name: "security_states", refresh: func(context.Context, int) error { return want }}
	r := w.refresher(c, time.Hour)
	if err := r.Once(t.Context()); !errors.Is(err, want) || !r.Ready() {
		t.Errorf("error %v, ready %v", err, r.Ready())
	}
}

func TestDeletedTenantLeavesNoSeries(t *testing.T) {
	w := newTestEnv()
	w.tenant.SetClient(fixedState{})
	c := &scriptedCollector{name: "security_states", refresh: func(context.Context, int) error { return nil }}
	r := w.refresher(c, time.Hour)
	if err := r.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.tenant.Call(client.Machines, "200", time.Second)
	w.tenant.QuotaWait(client.Machines, time.Second)
	w.tenant.ValueDropped("property", 1)

	r.Withdraw()
	if got := w.scrape(t); strings.Contains(got, "security_states") || !strings.Contains(got, "mde_api_requests_total") {
		t.Errorf("after the collector was withdrawn:\n%s", got)
	}
	w.tenant.Delete()
	w.tenant.Delete()
	w.tenant.Call(client.Machines, "200", time.Second)
	w.tenant.SetClient(fixedState{})
	if got := w.scrape(t); got != "" {
		t.Errorf("series remain:\n%s", got)
	}
}

func TestQuotaAndCredentialAreReadAtScrape(t *testing.T) {
	w := newTestEnv()
	w.tenant.SetClient(fixedState{})
	w.tenant.Call(client.DomainMachines, "200", 300*time.Millisecond)
	w.tenant.Call(client.Token, "error", time.Second)
	got := w.scrape(t)
	for series, want := range map[string]string{
		`mde_api_quota_calls{api="domain_machines",tenant="contoso",window="minute"}`:       "2",
		`mde_api_quota_calls{api="domain_machines",tenant="contoso",window="hour"}`:         "30",
		`mde_api_quota_limit_calls{api="domain_machines",tenant="contoso",window="hour"}`:   "1500",
		`mde_api_quota_limit_calls{api="domain_machines",tenant="contoso",window="minute"}`: "100",
		// Called before a restart, and never.
		`mde_api_quota_calls{api="machines",tenant="contoso",window="hour"}`:        "30",
		`mde_api_quota_calls{api="alerts",tenant="contoso",window="hour"}`:          "",
		`mde_credential_expiry_timestamp_seconds{tenant="contoso"}`:                 "1.9e+09",
		`mde_api_requests_total{api="domain_machines",code="200",tenant="contoso"}`: "1",
		`mde_api_requests_total{api="token",code="error",tenant="contoso"}`:         "1",
		`mde_api_quota_wait_seconds_total{api="domain_machines",tenant="contoso"}`:  "0",
		`mde_api_request_duration_seconds_count{api="token",tenant="contoso"}`:      "1",
	} {
		if v := value(got, series); v != want {
			t.Errorf("%s is %q, want %q", series, v, want)
		}
	}
	for _, f := range must(w.registry.Gather()) {
		if f.GetName() == "mde_api_request_duration_seconds" {
			if h := f.Metric[0].Histogram; h.GetSchema() == 0 && len(h.PositiveSpan) == 0 || len(h.Bucket) == 0 {
				t.Errorf("histogram %v is not both classic and native", h)
			}
		}
	}
	lint(t, w.registry)
}

var _ prometheus.Collector = clientState{}

func TestStatusExplainsFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestEnv()
		refused := &client.Error{API: client.Machines, Reason: client.ReasonForbidden, Status: 403}
		c := &scriptedCollector{name: "security_states", refresh: func(_ context.Context, n int) error {
			if n == 1 || n == 5 {
				return nil
			}
			return refused
		}}
		r := w.refresher(c, 10*time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var since time.Time
		for n := 1; n <= 6; n++ {
			failing := n != 1 && n != 5
			_, _ = r.refresh(ctx)
			if n == 2 || n == 6 {
				since = time.Now()
			}
			s := r.Status()
			switch {
			case !failing && (s.Failure != Failure{} || !s.FailingSince.IsZero()):
				t.Errorf("after refresh %d, which succeeded: %+v since %s", n, s.Failure, s.FailingSince)
			case failing && (!s.FailingSince.Equal(since) || s.Failure.Cause != "HTTP 403" || s.Failure.Runbook != "MDERefreshRefused" || !strings.Contains(s.Failure.Remedy, "Machine.Read.All")):
				t.Errorf("after refresh %d: %+v since %s, want since %s", n, s.Failure, s.FailingSince, since)
			}
			time.Sleep(time.Minute)
		}
	})
}

func TestEveryFailureHasARunbook(t *testing.T) {
	text, err := os.ReadFile("../docs/runbooks.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range client.Reasons() {
		if alert := explain(&client.Error{Reason: reason}, "contoso").Runbook; !strings.Contains(string(text), "\n### "+alert+"\n") {
			t.Errorf("%s has no section %q", reason, alert)
		}
	}
}

func TestContinuousCollectorPausesOnlyAfterTotalFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestEnv()
		c := &outcomes{
			&scriptedCollector{name: "watched_domains", refresh: func(_ context.Context, n int) error {
				time.Sleep(time.Minute)
				if n == 2 || n == 3 {
					return errors.New("no")
				}
				return nil
			}},
			[]Outcome{{}, {Partial: true}, {}},
		}
		runFor(t, w.refresher(c, 10*time.Minute), 4*time.Minute)
		pauses := c.pauses()
		if len(pauses) != 3 || pauses[0] != time.Minute || pauses[1] != time.Minute || pauses[2] < time.Minute+11*time.Second || pauses[2] > time.Minute+38*time.Second {
			t.Errorf("refreshes of a minute start after %v: want a pause after the third only", pauses)
		}
	})
}

func TestFreshStoredValuesDelayFirstRefreshByInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, start := newTestEnv(), time.Now()
		c := &scriptedCollector{name: "security_states", last: start, refresh: func(context.Context, int) error { return nil }}
		r := w.refresher(c, time.Hour)
		r.options.Resume = true
		runFor(t, r, 90*time.Minute)
		if len(c.starts) != 1 || c.starts[0].Sub(start) != time.Hour {
			t.Errorf("refreshes at %v, want one after an hour", c.starts)
		}
	})
}

func TestCollectorIsReadyDuringPauseOfLastRunsFailure(t *testing.T) {
	const pause = 5 * time.Minute
	for after, want := range map[time.Duration]bool{pause - time.Second: true, pause: false} {
		synctest.Test(t, func(t *testing.T) {
			store := &memoryStore{}
			start := func(refresh func(context.Context, int) error) *Refresher {
				w := newTestEnv()
				r := w.refresher(&scriptedCollector{name: "security_states", refresh: refresh}, 10*time.Minute)
				r.options.Resume, r.memory = true, Memory{store.untilKilled(after), w.logger}
				return r
			}
			runFor(t, start(func(context.Context, int) error {
				return &client.Error{API: client.Machines, Reason: client.ReasonThrottled, Status: 429, RetryAfter: pause}
			}), after)
			r := start(func(ctx context.Context, _ int) error {
				<-ctx.Done()
				return ctx.Err()
			})
			r.Go()
			defer r.Stop()
			synctest.Wait()
			if r.Ready() != want {
				t.Errorf("%s after a failure that asked to wait %s, ready is %v", after, pause, r.Ready())
			}
		})
	}
}

func TestStatusCountsRefreshesAndFailures(t *testing.T) {
	w := newTestEnv()
	c := &scriptedCollector{name: "security_states", refresh: func(_ context.Context, n int) error {
		if n < 3 {
			return errors.New("no")
		}
		return nil
	}}
	r := w.refresher(c, time.Hour)
	for range 3 {
		_, _ = r.refresh(t.Context())
	}
	if s := r.Status(); s.Refreshes != 3 || s.Failures != 2 || s.ConsecutiveFailures != 0 {
		t.Errorf("status %+v", s)
	}
}
