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

// domainsMetric returns the value of a metric about the refreshes of watched domains.
func domainsMetric(t *testing.T, w *collectortest.World, name string) string {
	t.Helper()
	return collectortest.Value(w.Scraped(t), name+`{collector="watched_domains",tenant="contoso"}`)
}

// age returns the age of the watched domains' values by their timestamp, false without
// one.
func age(t *testing.T, w *collectortest.World) (time.Duration, bool) {
	t.Helper()
	seconds, err := strconv.ParseFloat(domainsMetric(t, w, "mde_refresh_last_success_timestamp_seconds"), 64)
	return time.Since(time.UnixMilli(int64(seconds * 1000))), err == nil
}

func TestRoundWithoutResponseFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := &hangingDomain{fakeAPI: newFakeAPI(), domain: "d00000.example"}
		d := newDomains(w, newClient(t, api, emptyLedger{}, w.Tenant), domainNames(1), func(o *Options) { o.Interval = 30 * time.Second })
		r, _ := start(t, w, d, 30*time.Second)
		time.Sleep(29 * time.Second)
		if r.Ready() {
			t.Error("ready before the domain succeeded or failed")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		s := r.Status()
		if s.Failures != 1 || s.Reason != client.ReasonTimeout || !strings.Contains(s.Error, "1 of 1 domains, the first of them d00000.example") || !strings.Contains(s.Error, "(0 failed, 1 hang)") {
			t.Errorf("status %+v", s)
		}
		if got := domainsMetric(t, w, "mde_refresh_success"); got != "0" {
			t.Errorf("mde_refresh_success is %q, want 0", got)
		}
		if _, ok := age(t, w); ok {
			t.Error("values have an age before they were read")
		}
	})
}

func TestHangingDomainFailsTheRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := &hangingDomain{fakeAPI: newFakeAPI(), domain: "d00007.example"}
		d := newDomains(w, newClient(t, api, emptyLedger{}, w.Tenant), domainNames(20), func(o *Options) { o.Interval = 2 * time.Minute })
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

// busyDomain is a transport that responds 503 with Retry-After for one domain from a
// time on.
type busyDomain struct {
	*fakeAPI
	domain, retryAfter string
	since              time.Time
}

func (f *busyDomain) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := f.fakeAPI.RoundTrip(r)
	if err == nil && strings.Contains(r.URL.Path, f.domain) && !time.Now().Before(f.since) {
		response.StatusCode = http.StatusServiceUnavailable
		response.Header.Set("Retry-After", f.retryAfter)
	}
	return response, err
}

// A lookup that is being retried when its round ends fails with the error of its last
// attempt.
func TestRetriedDomainFailsTheRoundWithItsReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := &busyDomain{fakeAPI: newFakeAPI(), domain: "d00007.example", retryAfter: "100", since: time.Now().Add(3 * time.Minute)}
		d := newDomains(w, newClient(t, api, emptyLedger{}, w.Tenant), domainNames(20), func(o *Options) { o.Interval = 2 * time.Minute })
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

func TestRoundErrorNamesTheFirstFailedDomains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := newFakeAPI()
		api.respond = func(domain, _ string) (int, string) {
			if domain < "d00012.example" {
				return 200, "no JSON"
			}
			return 200, page()
		}
		r, _ := start(t, w, newDomains(w, api.client(t, emptyLedger{}, w.Tenant), domainNames(40)), time.Hour)
		time.Sleep(time.Minute)
		synctest.Wait()
		s := r.Status()
		for _, want := range []string{"12 of 40 domains, the first of them d00000.example: ", "; d00004.example: ", "; and 7 more (12 failed, 0 hang)"} {
			if !strings.Contains(s.Error, want) {
				t.Errorf("error lacks %q: %s", want, s.Error)
			}
		}
		if s.Reason != client.ReasonDecode || strings.Contains(s.Error, "d00005") {
			t.Errorf("reason %s, error %s", s.Reason, s.Error)
		}
	})
}

// Filling the list takes 80 minutes, almost three rounds.
func TestInitialLookupsAreNeitherSuccessNorFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := newFakeAPI()
		d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), domainNames(2000), func(o *Options) { o.Interval, o.MaxAge = 30*time.Minute, 0 })
		r, _ := start(t, w, d, 30*time.Minute)
		time.Sleep(time.Second)
		if !r.Ready() {
			t.Error("not ready after the first response")
		}
		for len(api.byDomain()) < 2000 {
			synctest.Wait()
			if s := r.Status(); s.Refreshes > 0 || s.Failures > 0 || domainsMetric(t, w, "mde_refresh_success") != "" {
				t.Fatalf("after %d domains, success %q, status %+v", len(api.byDomain()), domainsMetric(t, w, "mde_refresh_success"), s)
			}
			if _, ok := age(t, w); ok {
				t.Fatalf("the list has an age after %d domains", len(api.byDomain()))
			}
			time.Sleep(7 * time.Minute)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := r.Status(); s.Refreshes != 1 || domainsMetric(t, w, "mde_refresh_success") != "1" {
			t.Errorf("after all lookups, status %+v", s)
		}
		if age, ok := age(t, w); !ok || age < 60*time.Minute || age > 85*time.Minute {
			t.Errorf("after all lookups, oldest value %s old by the timestamp", age)
		}
		for range 6 {
			time.Sleep(30 * time.Minute)
			synctest.Wait()
			if age, ok := age(t, w); !ok || age > 150*time.Minute || domainsMetric(t, w, "mde_refresh_success") != "1" {
				t.Errorf("oldest value %s old, success %s", age, domainsMetric(t, w, "mde_refresh_success"))
			}
		}
	})
}

func TestFailureDuringInitialLookupsFailsTheRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := newFakeAPI()
		broken := true
		api.respond = func(domain, _ string) (int, string) {
			if domain == "d00100.example" && broken {
				return 200, "no JSON"
			}
			return 200, page()
		}
		d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), domainNames(2000), func(o *Options) { o.Interval, o.MaxAge = 30*time.Minute, 0 })
		r, _ := start(t, w, d, 30*time.Minute)
		time.Sleep(31 * time.Minute)
		synctest.Wait()
		if s := r.Status(); s.Failures != 1 || !strings.Contains(s.Error, "1 of 2000 domains") || domainsMetric(t, w, "mde_refresh_success") != "0" {
			t.Errorf("status %+v", s)
		}
		api.mu.Lock()
		broken = false
		api.mu.Unlock()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if s := r.Status(); s.Error != "" || domainsMetric(t, w, "mde_refresh_success") != "1" {
			t.Errorf("after it succeeded, status %+v", s)
		}
	})
}

// The interval may be shorter than the time between two calls, and a response may
// arrive just after it ends.
func TestIntervalWithoutDueDomainIsNoRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := newFakeAPI()
		api.latency = func() time.Duration { return 400 * time.Millisecond }
		d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), domainNames(2), func(o *Options) { o.Interval, o.MaxAge = time.Second, 0 })
		r, _ := start(t, w, d, time.Second)
		time.Sleep(2 * time.Second)
		for range 2000 {
			time.Sleep(700 * time.Millisecond)
			synctest.Wait()
			if domainsMetric(t, w, "mde_refresh_success") != "1" {
				t.Fatalf("success %q, status %+v", domainsMetric(t, w, "mde_refresh_success"), r.Status())
			}
		}
	})
}

func TestOnceLooksUpAllDomains(t *testing.T) {
	for name, tc := range map[string]struct {
		respond func(domain string) (int, string)
		failure string
	}{
		"all succeed":    {func(string) (int, string) { return 200, page() }, ""},
		"one is invalid": {func(string) (int, string) { return 400, `{"error":{"code":"InvalidDomainName"}}` }, ""},
		"one fails":      {func(string) (int, string) { return 200, "no JSON" }, "1 of 2000 domains, the first of them d00042.example"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &collector.MemoryStore{}
				for range 2 { // The second run has stored results.
					w := collectortest.NewWorld()
					api := newFakeAPI()
					api.respond = func(domain, _ string) (int, string) {
						if domain == "d00042.example" {
							return tc.respond(domain)
						}
						return 200, page()
					}
					d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), domainNames(2000), func(o *Options) {
						o.Interval, o.MaxAge, o.Once, o.Store = 20*time.Minute, 0, true, store
					})
					err := w.Refresher(d, 20*time.Minute).Once(t.Context())
					if p := d.Page().Progress; p.Done != 2000 || p.Total != 2000 || len(api.byDomain()) != 2000 {
						t.Errorf("%d of %d domains were looked up", p.Done, p.Total)
					}
					if tc.failure == "" && err != nil || tc.failure != "" && !strings.Contains(fmt.Sprint(err), tc.failure) {
						t.Errorf("error %v, want %q", err, tc.failure)
					}
					if api.throttled > 0 {
						t.Errorf("%d calls were throttled", api.throttled)
					}
				}
			})
		})
	}
}

func TestManyHangingDomainsDoNotDelayOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := &hangingDomain{fakeAPI: newFakeAPI(), domain: "hanging"}
		names := domainNames(50)
		for i := range 50 {
			names = append(names, fmt.Sprintf("hanging-%d.example", i))
		}
		d := newDomains(w, newClient(t, api, emptyLedger{}, w.Tenant), names, func(o *Options) { o.Interval = 10 * time.Minute })
		start(t, w, d, 10*time.Minute)
		time.Sleep(20 * time.Minute)
		api.reset()
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if n := len(api.byDomain()); n != 50 {
			t.Errorf("%d of the 50 other domains were looked up", n)
		}
		for domain, lookups := range api.byDomain() {
			for i := 1; i < len(lookups); i++ {
				if gap := lookups[i].Sub(lookups[i-1]); gap > 10*time.Minute+20*time.Second {
					t.Errorf("%s waited %s", domain, gap)
				}
			}
		}
	})
}

// An aborted round leaves the rest of the list to the next one.
func TestOnceContinuesAfterAnAbortedRound(t *testing.T) {
	for name, tc := range map[string]struct {
		status  int
		fails   func(domain string, elapsed time.Duration) bool
		lookups int
		longest time.Duration
		failed  string // A regular expression.
	}{
		"the first domains fail":       {500, func(domain string, _ time.Duration) bool { return domain < "d00010" }, 3000, 3 * time.Hour, `10 of 3000 domains, the first of them d00000\.example: `},
		"the API fails for 15 minutes": {500, func(_ string, t time.Duration) bool { return t > time.Hour && t < 75*time.Minute }, 3000, 3 * time.Hour, `1[0-9] of 3000 domains, the first of them `}, // Retry pauses have jitter.
		"every domain fails":           {500, func(string, time.Duration) bool { return true }, 15, 15 * time.Minute, `round aborted: could not read 15 of 3000 domains, the first of them d00014\.example: `},
		"the permission is missing":    {403, func(string, time.Duration) bool { return true }, 12, time.Minute, `\(12 failed, 0 hang\)`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, api, start := collectortest.NewWorld(), newFakeAPI(), time.Now()
				api.respond = func(domain, _ string) (int, string) {
					if tc.fails(domain, time.Since(start)) {
						return tc.status, `{"error":{"code":"Scripted"}}`
					}
					return 200, page()
				}
				d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), domainNames(3000), func(o *Options) {
					o.Interval, o.Once = time.Hour, true
				})
				err := w.Refresher(d, time.Hour).Once(t.Context())
				if !regexp.MustCompile(tc.failed).MatchString(fmt.Sprint(err)) {
					t.Errorf("error %v, want %q", err, tc.failed)
				}
				if lookups := d.Page().Progress.Done; lookups != tc.lookups {
					t.Errorf("%d domains were looked up, want %d", lookups, tc.lookups)
				}
				if took := time.Since(start); took > tc.longest {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}
