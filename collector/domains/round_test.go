package domains

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

// aboutDomains returns a metric about the refreshes of the watched domains.
func aboutDomains(t *testing.T, w *collectortest.World, name string) string {
	t.Helper()
	return collectortest.Value(w.Scraped(t), name+`{collector="watched_domains",tenant="contoso"}`)
}

// age is how old the watched domains' values are by their timestamp, and whether
// there is one.
func age(t *testing.T, w *collectortest.World) (time.Duration, bool) {
	t.Helper()
	seconds, err := strconv.ParseFloat(aboutDomains(t, w, "mde_refresh_last_success_timestamp_seconds"), 64)
	return time.Since(time.UnixMilli(int64(seconds * 1000))), err == nil
}

func TestARoundWithoutAnAnswerIsNoSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		far := &hangingDomain{farEnd: newFarEnd(), domain: "d00000.example"}
		d := newDomains(w, newClient(t, far, emptyLedger{}, w.Tenant), domainNames(1), func(o *Options) { o.Interval = 30 * time.Second })
		r, _ := start(t, w, d, 30*time.Second)
		time.Sleep(29 * time.Second)
		if r.Ready() {
			t.Error("ready before the domain has answered or failed")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		s := r.Status()
		if s.Failures != 1 || s.Reason != client.ReasonTimeout || !strings.Contains(s.Error, "1 of 1 domains, the first of them d00000.example") || !strings.Contains(s.Error, "(0 failed, 1 hang)") {
			t.Errorf("status %+v", s)
		}
		if got := aboutDomains(t, w, "mde_refresh_success"); got != "0" {
			t.Errorf("mde_refresh_success is %q, want 0", got)
		}
		if _, ok := age(t, w); ok {
			t.Error("values that were never read have an age")
		}
	})
}

func TestADomainThatHangsFailsTheRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		far := &hangingDomain{farEnd: newFarEnd(), domain: "d00007.example"}
		d := newDomains(w, newClient(t, far, emptyLedger{}, w.Tenant), domainNames(20), func(o *Options) { o.Interval = 2 * time.Minute })
		r, _ := start(t, w, d, 2*time.Minute)
		for range 10 {
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			if s := r.Status(); s.Refreshes != s.Failures || !strings.Contains(s.Error, "1 of 20 domains, the first of them d00007.example") {
				t.Fatalf("status %+v", s)
			}
		}
	})
}

// busyDomain answers 503 for one domain from a time on, and asks for a pause.
type busyDomain struct {
	*farEnd
	domain, retryAfter string
	since              time.Time
}

func (f *busyDomain) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := f.farEnd.RoundTrip(r)
	if err == nil && strings.Contains(r.URL.Path, f.domain) && !time.Now().Before(f.since) {
		response.StatusCode = http.StatusServiceUnavailable
		response.Header.Set("Retry-After", f.retryAfter)
	}
	return response, err
}

// A lookup that is retried when its round ends has the reason of its last attempt.
func TestADomainThatIsRetriedFailsTheRoundForItsReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		far := &busyDomain{farEnd: newFarEnd(), domain: "d00007.example", retryAfter: "100", since: time.Now().Add(3 * time.Minute)}
		d := newDomains(w, newClient(t, far, emptyLedger{}, w.Tenant), domainNames(20), func(o *Options) { o.Interval = 2 * time.Minute })
		r, _ := start(t, w, d, 2*time.Minute)
		for range 10 {
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			if s := r.Status(); s.Error != "" && (s.Reason != client.ReasonServer || !strings.Contains(s.Error, "HTTP 503")) {
				t.Fatalf("reason %s: %s", s.Reason, s.Error)
			}
		}
		if s := r.Status(); s.Failures == 0 {
			t.Error("no round failed")
		}
	})
}

func TestARoundNamesTheFirstOfThoseThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		far := newFarEnd()
		far.answer = func(domain, _ string) (int, string) {
			if domain < "d00012.example" {
				return 200, "no JSON"
			}
			return 200, page()
		}
		r, _ := start(t, w, newDomains(w, far.client(t, emptyLedger{}, w.Tenant), domainNames(40)), time.Hour)
		time.Sleep(time.Minute)
		synctest.Wait()
		s := r.Status()
		for _, want := range []string{"12 of 40 domains, the first of them d00000.example: ", "; d00004.example: ", "; and 7 more (12 failed, 0 hang)"} {
			if !strings.Contains(s.Error, want) {
				t.Errorf("the error does not say %q: %s", want, s.Error)
			}
		}
		if s.Reason != client.ReasonDecode || strings.Contains(s.Error, "d00005") {
			t.Errorf("reason %s, error %s", s.Reason, s.Error)
		}
	})
}

// The list takes 80 minutes, which are almost three rounds.
func TestAListThatIsBeingFilledIsNeitherASuccessNorAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		far := newFarEnd()
		d := newDomains(w, far.client(t, emptyLedger{}, w.Tenant), domainNames(2000), func(o *Options) { o.Interval, o.MaxAge = 30*time.Minute, 0 })
		r, _ := start(t, w, d, 30*time.Minute)
		time.Sleep(time.Second)
		if !r.Ready() {
			t.Error("not ready though a domain has answered")
		}
		for len(far.byDomain()) < 2000 {
			synctest.Wait()
			if s := r.Status(); s.Refreshes > 0 || s.Failures > 0 || aboutDomains(t, w, "mde_refresh_success") != "" {
				t.Fatalf("after %d domains, success %q, status %+v", len(far.byDomain()), aboutDomains(t, w, "mde_refresh_success"), s)
			}
			if _, ok := age(t, w); ok {
				t.Fatalf("after %d domains the list has an age", len(far.byDomain()))
			}
			time.Sleep(7 * time.Minute)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := r.Status(); s.Refreshes != 1 || aboutDomains(t, w, "mde_refresh_success") != "1" {
			t.Errorf("once filled, status %+v", s)
		}
		if age, ok := age(t, w); !ok || age < 60*time.Minute || age > 85*time.Minute {
			t.Errorf("once filled, the oldest value is %s old by the timestamp", age)
		}
		for range 6 {
			time.Sleep(30 * time.Minute)
			synctest.Wait()
			if age, ok := age(t, w); !ok || age > 150*time.Minute || aboutDomains(t, w, "mde_refresh_success") != "1" {
				t.Errorf("the oldest value is %s old, success %s", age, aboutDomains(t, w, "mde_refresh_success"))
			}
		}
	})
}

func TestADomainThatFailsWhileTheListIsFilledFailsTheRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		far := newFarEnd()
		broken := true
		far.answer = func(domain, _ string) (int, string) {
			if domain == "d00100.example" && broken {
				return 200, "no JSON"
			}
			return 200, page()
		}
		d := newDomains(w, far.client(t, emptyLedger{}, w.Tenant), domainNames(2000), func(o *Options) { o.Interval, o.MaxAge = 30*time.Minute, 0 })
		r, _ := start(t, w, d, 30*time.Minute)
		time.Sleep(31 * time.Minute)
		synctest.Wait()
		if s := r.Status(); s.Failures != 1 || !strings.Contains(s.Error, "1 of 2000 domains") || aboutDomains(t, w, "mde_refresh_success") != "0" {
			t.Errorf("status %+v", s)
		}
		far.mu.Lock()
		broken = false
		far.mu.Unlock()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if s := r.Status(); s.Error != "" || aboutDomains(t, w, "mde_refresh_success") != "1" {
			t.Errorf("after it has answered, status %+v", s)
		}
	})
}

// An interval may be shorter than the time between two calls, or an answer come
// just after it ends.
func TestAnIntervalInWhichNoDomainIsDueIsNoRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		far := newFarEnd()
		far.latency = func() time.Duration { return 400 * time.Millisecond }
		d := newDomains(w, far.client(t, emptyLedger{}, w.Tenant), domainNames(2), func(o *Options) { o.Interval, o.MaxAge = time.Second, 0 })
		r, _ := start(t, w, d, time.Second)
		time.Sleep(2 * time.Second)
		for range 2000 {
			time.Sleep(700 * time.Millisecond)
			synctest.Wait()
			if aboutDomains(t, w, "mde_refresh_success") != "1" {
				t.Fatalf("success %q, status %+v", aboutDomains(t, w, "mde_refresh_success"), r.Status())
			}
		}
	})
}

func TestOnceAsksTheWholeListHoweverLongThatTakes(t *testing.T) {
	for name, tc := range map[string]struct {
		answer  func(domain string) (int, string)
		failure string
	}{
		"all answer":     {func(string) (int, string) { return 200, page() }, ""},
		"one is invalid": {func(string) (int, string) { return 400, `{"error":{"code":"InvalidDomainName"}}` }, ""},
		"one fails":      {func(string) (int, string) { return 200, "no JSON" }, "1 of 2000 domains, the first of them d00042.example"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &collector.MemoryStore{}
				for range 2 { // The second time with stored results.
					w := collectortest.NewWorld()
					far := newFarEnd()
					far.answer = func(domain, _ string) (int, string) {
						if domain == "d00042.example" {
							return tc.answer(domain)
						}
						return 200, page()
					}
					d := newDomains(w, far.client(t, emptyLedger{}, w.Tenant), domainNames(2000), func(o *Options) {
						o.Interval, o.MaxAge, o.WholeList, o.Store = 20*time.Minute, 0, true, store
					})
					err := w.Refresher(d, 20*time.Minute).Once(t.Context())
					if p := d.Page().Progress; p.Done != 2000 || p.Total != 2000 || len(far.byDomain()) != 2000 {
						t.Errorf("%d of %d domains were asked", p.Done, p.Total)
					}
					if tc.failure == "" && err != nil || tc.failure != "" && !strings.Contains(fmt.Sprint(err), tc.failure) {
						t.Errorf("error %v, want %q", err, tc.failure)
					}
					if far.refused > 0 {
						t.Errorf("%d calls were refused", far.refused)
					}
				}
			})
		})
	}
}

func TestDomainsThatHangLeaveRoomForTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		far := &hangingDomain{farEnd: newFarEnd(), domain: "hanging"}
		names := domainNames(50)
		for i := range 50 {
			names = append(names, fmt.Sprintf("hanging-%d.example", i))
		}
		d := newDomains(w, newClient(t, far, emptyLedger{}, w.Tenant), names, func(o *Options) { o.Interval = 10 * time.Minute })
		start(t, w, d, 10*time.Minute)
		time.Sleep(20 * time.Minute)
		far.forget()
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if n := len(far.byDomain()); n != 50 {
			t.Errorf("%d of the 50 other domains were asked", n)
		}
		for domain, asked := range far.byDomain() {
			for i := 1; i < len(asked); i++ {
				if gap := asked[i].Sub(asked[i-1]); gap > 10*time.Minute+20*time.Second {
					t.Errorf("%s waited %s", domain, gap)
				}
			}
		}
	})
}

// A round is given up before the rest of the list is asked.
func TestOnceAsksTheRestOfTheListAfterARoundIsGivenUp(t *testing.T) {
	for name, tc := range map[string]struct {
		status  int
		fails   func(domain string, elapsed time.Duration) bool
		asked   int
		longest time.Duration
		failed  string // A regular expression.
	}{
		"the first domains fail":       {500, func(domain string, _ time.Duration) bool { return domain < "d00010" }, 3000, 3 * time.Hour, `10 of 3000 domains, the first of them d00000\.example: `},
		"the API fails for 15 minutes": {500, func(_ string, t time.Duration) bool { return t > time.Hour && t < 75*time.Minute }, 3000, 3 * time.Hour, `1[0-9] of 3000 domains, the first of them `}, // Pauses before retries are jittered.,
		"every domain fails":           {500, func(string, time.Duration) bool { return true }, 15, 15 * time.Minute, `the round was given up: 15 of 3000 domains, the first of them d00014\.example: `},
		"the permission is missing":    {403, func(string, time.Duration) bool { return true }, 12, time.Minute, `\(12 failed, 0 hang\)`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, far, start := collectortest.NewWorld(), newFarEnd(), time.Now()
				far.answer = func(domain, _ string) (int, string) {
					if tc.fails(domain, time.Since(start)) {
						return tc.status, `{"error":{"code":"Scripted"}}`
					}
					return 200, page()
				}
				d := newDomains(w, far.client(t, emptyLedger{}, w.Tenant), domainNames(3000), func(o *Options) {
					o.Interval, o.WholeList = time.Hour, true
				})
				err := w.Refresher(d, time.Hour).Once(t.Context())
				if !regexp.MustCompile(tc.failed).MatchString(fmt.Sprint(err)) {
					t.Errorf("error %v, want %q", err, tc.failed)
				}
				if asked := d.Page().Progress.Done; asked != tc.asked {
					t.Errorf("%d domains were asked, want %d", asked, tc.asked)
				}
				if took := time.Since(start); took > tc.longest {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}
