package domains

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

func listOf(name string, interval time.Duration, domains ...string) ListConfig {
	return ListConfig{Name: name, RefreshInterval: model.Duration(interval), Domains: domains}
}

// The pace allows 100 calls in 1000 s.
func TestLongestIntervalIsStretchedFirst(t *testing.T) {
	const pace = 10 * time.Second
	type list struct {
		interval, domains, cycle int // Seconds.
	}
	for name, lists := range map[string][]list{
		"no list stretched":                  {{100, 5, 100}, {1000, 30, 1000}, {2000, 40, 2000}},
		"whole pace used":                    {{100, 5, 100}, {1000, 50, 1000}},
		"one list":                           {{100, 50, 500}},
		"only the longest stretched":         {{100, 5, 100}, {1000, 30, 1000}, {2000, 80, 4000}},
		"only the longest stretched, by far": {{100, 8, 100}, {1000, 10, 1000}, {2000, 8000, 800_000}},
		"second longest stretched, longest keeps its share": {{100, 1, 100}, {1000, 900, 10526}, {100_000, 10_000, 2_222_222}},
		"equal intervals stretched equally":                 {{100, 5, 100}, {1000, 60, 2000}, {1000, 40, 2000}},
		"only the longest stretched although it is small":   {{1000, 99, 1000}, {3000, 30, 30_000}},
		"not beyond a longer one":                           {{1000, 300, 3010}, {3000, 1, 3010}},
		"both stretched, longest gets what is left":         {{1000, 100, 1053}, {3000, 60, 12_000}},
		"fits exactly beside the share of a longer one":     {{1000, 99, 1000}, {2000, 40, 40_000}},
		"lists without domains":                             {{50, 0, 50}, {100, 20, 200}, {150, 0, 200}, {300, 0, 300}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &domainSchedule{}
			for i, l := range lists {
				w := &watchList{ListConfig: listOf("", time.Duration(l.interval)*time.Second), index: i}
				w.turns.domains = l.domains
				s.lists = append(s.lists, w)
			}
			for i, cycle := range s.cycles(pace) {
				if got := cycle.Round(time.Second); got != time.Duration(lists[i].cycle)*time.Second {
					t.Errorf("list %d: %s, want %d s", i, got, lists[i].cycle)
				}
			}
			for i, cycle := range s.cycles(0) { // During the burst after a start.
				if cycle != s.lists[i].interval() {
					t.Errorf("without a pace, list %d: %s", i, cycle)
				}
			}
		})
	}
}

// longestGap returns the longest time between two lookups of a domain after a time.
func (f *fakeAPI) longestGap(domain string, after time.Time) (longest time.Duration) {
	lookups := f.byDomain()[domain]
	for i := 1; i < len(lookups); i++ {
		if lookups[i].After(after) {
			longest = max(longest, lookups[i].Sub(lookups[i-1]))
		}
	}
	return longest
}

func TestDomainOnSeveralListsUsesTheShortestInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := newFakeAPI()
		d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), []string{"both.example", "slow.example"}, func(o *Options) {
			o.Interval, o.MaxAge = 4*time.Hour, 0
			o.Lists = []ListConfig{listOf("c2", 15*time.Minute, "both.example", "fast.example"), listOf("weekly", 7*24*time.Hour, "fast.example", "rare.example")}
		})
		r, _ := start(t, w, d, 4*time.Hour)
		time.Sleep(13 * time.Hour)
		synctest.Wait()
		for domain, want := range map[string]int{"both.example": 53, "fast.example": 53, "slow.example": 4, "rare.example": 1} {
			if n := len(api.byDomain()[domain]); n < want-1 || n > want+1 {
				t.Errorf("%s was looked up %d times in 13 hours, want %d", domain, n, want)
			}
		}
		got := w.Exposed(t)
		for series, want := range map[string]string{
			`mde_watched_domain_info{domain="both.example",list="c2",tenant="contoso"}`:              "1",
			`mde_watched_domain_info{domain="both.example",list="default",tenant="contoso"}`:         "1",
			`mde_watched_domain_info{domain="both.example",list="weekly",tenant="contoso"}`:          "",
			`mde_watched_domain_info{domain="rare.example",list="weekly",tenant="contoso"}`:          "1",
			`mde_watched_domains{tenant="contoso"}`:                                                  "4",
			`mde_watched_domain_list_interval_seconds{list="c2",tenant="contoso"}`:                   "900",
			`mde_watched_domain_list_interval_seconds{list="default",tenant="contoso"}`:              "14400",
			`mde_watched_domain_list_configured_interval_seconds{list="default",tenant="contoso"}`:   "14400",
			`mde_watched_domain_list_interval_seconds{list="weekly",tenant="contoso"}`:               "604800",
			`mde_watched_domains_interval_seconds{tenant="contoso"}`:                                 "604800",
			`mde_watched_domain_machines{domain="rare.example",tenant="contoso"}`:                    "0",
			`mde_watched_domain_list_configured_interval_seconds{list="undefined",tenant="contoso"}`: "",
		} {
			if value := collectortest.Value(got, series); value != want {
				t.Errorf("%s is %q, want %q", series, value, want)
			}
		}
		w.Lint(t)
		page := r.Status().Page
		if rows := page.Table.Rows; rows[0].Group != "c2, default" || rows[2].Group != "weekly" || rows[3].Group != "default" {
			t.Errorf("rows %+v", rows)
		}
		if want := "4 domains, 0 contacted; c2: 2 every 15m; default: 2 every 4h; weekly: 2 every 1w"; page.Summary != want {
			t.Errorf("summary %q, want %q", page.Summary, want)
		}
		if oldest, ok := age(t, w); !ok || oldest < 12*time.Hour {
			t.Errorf("age %s (%v), want that of the oldest domain", oldest, ok)
		}
		if s := r.Status(); s.Failures > 0 || s.Refreshes < 51 || s.Refreshes > 55 {
			t.Errorf("%d refreshes, want one every 15 minutes: %+v", s.Refreshes, s)
		}
	})
}

func TestListLastSuccessIsThatOfItsOldestDomain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := newFakeAPI()
		var failing sync.Map
		failing.Store("never.example", true)
		api.respond = func(domain, _ string) (int, string) {
			if _, ok := failing.Load(domain); ok {
				return 500, ""
			}
			if domain == "invalid.example" {
				return 400, `{"error":{"code":"InvalidDomainName"}}`
			}
			return 200, page()
		}
		d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), []string{"both.example", "slow.example", "never.example"}, func(o *Options) {
			o.Interval, o.MaxAge = 4*time.Hour, 0
			o.Lists = []ListConfig{listOf("c2", 15*time.Minute, "both.example", "fast.example", "invalid.example"), listOf("same", 24*time.Hour, "both.example")}
		})
		start(t, w, d, 4*time.Hour)
		// The age of each list must be that of the oldest of these domains. Without
		// domains it must have none.
		check := func(when string, lists map[string][]string) {
			t.Helper()
			synctest.Wait()
			got := w.Exposed(t)
			timeOf := func(metric, label, name string) float64 {
				value := collectortest.Value(got, `mde_watched_`+metric+`_last_success_timestamp_seconds{`+label+`="`+name+`",tenant="contoso"}`)
				seconds, err := strconv.ParseFloat(cmp.Or(value, "+Inf"), 64)
				if err != nil {
					t.Fatal(err)
				}
				return seconds
			}
			for list, domains := range lists {
				want := math.Inf(1)
				for _, domain := range domains {
					want = min(want, timeOf("domain", "domain", domain))
				}
				if at := timeOf("domain_list", "list", list); at != want {
					t.Errorf("%s: time of list %s is %f, want %f", when, list, at, want)
				}
			}
		}
		time.Sleep(time.Hour)
		check("before every domain of the list default was read", map[string][]string{"default": nil, "same": nil})
		failing.Store("fast.example", true)
		failing.Delete("never.example")
		time.Sleep(3*time.Hour + 30*time.Minute)
		lists := map[string][]string{"c2": {"both.example", "fast.example"}, "default": {"never.example", "slow.example"}, "same": nil}
		check("while a domain fails", lists)
		failing.Delete("fast.example")
		failing.Store("both.example", true)
		time.Sleep(time.Hour)
		check("while another domain fails", lists)
		w.Lint(t)
	})
}

func TestValuesExpireByTheMaxAgeOfTheirList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := newFakeAPI()
		var down atomic.Bool
		api.respond = func(string, string) (int, string) {
			if down.Load() {
				return 500, ""
			}
			return 200, page()
		}
		d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), []string{"default.example"}, func(o *Options) {
			o.Interval, o.MaxAge = time.Hour, 2*time.Hour
			set := listOf("set", 30*time.Minute, "set.example")
			set.MaxAge = model.Duration(40 * time.Minute)
			o.Lists = []ListConfig{set, listOf("c2", 20*time.Minute, "c2.example"), listOf("daily", 24*time.Hour, "daily.example", "c2.example")}
		})
		start(t, w, d, time.Hour)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		down.Store(true)
		time.Sleep(time.Second)
		gone := map[string]time.Time{}
		for end := time.Now().Add(80 * time.Hour); time.Now().Before(end); time.Sleep(time.Minute) {
			got := w.Exposed(t)
			for _, name := range []string{"default.example", "set.example", "c2.example", "daily.example"} {
				if gone[name].IsZero() && collectortest.Value(got, `mde_watched_domain_machines{domain="`+name+`",tenant="contoso"}`) == "" {
					gone[name] = time.Now()
				}
			}
			synctest.Wait()
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		for name, want := range map[string]time.Duration{"default.example": 2 * time.Hour, "set.example": 40 * time.Minute, "c2.example": time.Hour, "daily.example": 72 * time.Hour} {
			if age := gone[name].Sub(d.find(name).result.At); age < want || age > want+2*time.Minute {
				t.Errorf("%s withdrawn at age %s, want %s", name, age, want)
			}
		}
	})
}

func TestInitialLookupsOfALongListDoNotDelayAShortOne(t *testing.T) {
	for name, ledger := range map[string]client.Ledger{"with storage": emptyLedger{}, "without storage": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := collectortest.NewWorld()
				api := newFakeAPI()
				var broken atomic.Bool
				broken.Store(true)
				api.respond = func(domain, _ string) (int, string) {
					if domain == "failing.example" && broken.Load() {
						return 200, "no JSON"
					}
					return 200, page()
				}
				list := newFakeListFile()
				d := newDomains(w, api.client(t, ledger, w.Tenant), nil, list.watch, func(o *Options) {
					o.Interval, o.MaxAge = 24*time.Hour, 0
					o.Lists = []ListConfig{listOf("c2", 15*time.Minute, append(domainNames(50), "failing.example")...)}
				})
				start(t, w, d, 24*time.Hour)
				time.Sleep(time.Hour)
				began := time.Now()
				var long []string
				for _, name := range domainNames(3000) {
					long = append(long, "long-"+name)
				}
				list.set(d, long...)
				time.Sleep(90 * time.Minute)
				broken.Store(false)
				for api.domains() < 3051 && time.Since(began) < 4*time.Hour {
					time.Sleep(time.Second)
				}
				if took := time.Since(began); took > 150*time.Minute { // 3,000 at 1,297 an hour.
					t.Errorf("3,000 domains took %s", took)
				}
				for _, name := range domainNames(50) {
					if gap := api.longestGap(name, began); gap > 15*time.Minute+30*time.Second {
						t.Errorf("%s waited %s during the initial lookups of another list", name, gap)
					}
				}
				if gap := api.longestGap("failing.example", began); gap > 20*time.Minute {
					t.Errorf("the failed domain waited %s", gap)
				}
				if api.throttled > 0 {
					t.Errorf("%d calls were throttled", api.throttled)
				}
			})
		})
	}
}

func TestMovedDomainKeepsItsValuesAndTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := newFakeAPI()
		api.respond = responses(map[string]string{"a.example": page(row(1, ""))})
		list := newFakeListFile("b.example")
		d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), nil, list.watch, func(o *Options) {
			o.Interval, o.MaxAge = 10*time.Minute, 0
			o.Lists = []ListConfig{listOf("daily", 24*time.Hour, "a.example", "b.example", "c.example")}
		})
		r, _ := start(t, w, d, 10*time.Minute)
		machines := func() string {
			return collectortest.Value(w.Exposed(t), `mde_watched_domain_machines{domain="a.example",tenant="contoso"}`)
		}
		expires := func() time.Duration {
			d.mu.Lock()
			defer d.mu.Unlock()
			a := d.find("a.example")
			return a.blocks[1].Expires.Sub(a.result.At)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(api.byDomain()["a.example"]); n != 1 || machines() != "1" || expires() != 72*time.Hour {
			t.Fatalf("looked up %d times, %s machines, withdrawn after %s", n, machines(), expires())
		}
		list.set(d, "a.example", "b.example")
		if machines() != "" || expires() != 30*time.Minute { // The value is an hour old.
			t.Errorf("on the shorter list, %q machines, withdrawn after %s", machines(), expires())
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(api.byDomain()["a.example"]); n != 2 || machines() != "1" {
			t.Errorf("on the shorter list, looked up %d times, %q machines", n, machines())
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(api.byDomain()["a.example"]); n < 7 || n > 9 {
			t.Errorf("looked up %d times in an hour", n)
		}
		list.set(d)
		api.reset()
		if machines() != "1" || expires() != 72*time.Hour || r.Status().Page.Table.Rows[0].Group != "daily" {
			t.Errorf("back on the longer list, %q machines, withdrawn after %s, %+v", machines(), expires(), r.Status().Page.Table.Rows[0])
		}
		time.Sleep(6 * time.Hour)
		synctest.Wait()
		for domain, lookups := range api.byDomain() {
			if len(lookups) > 1 {
				t.Errorf("back on the longer list, %s looked up %d times in six hours", domain, len(lookups))
			}
		}
		if got := collectortest.Value(w.Exposed(t), `mde_watched_domain_list_interval_seconds{list="default",tenant="contoso"}`); got != "600" {
			t.Errorf("interval of a list without domains %q", got)
		}
	})
}

func TestRestartWithOtherListsKeepsTheValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &collector.MemoryStore{}
		api := newFakeAPI()
		api.respond = responses(map[string]string{"a.example": page(row(1, ""))})
		api.latency = func() time.Duration { return 100 * time.Millisecond }
		begin := func(lists ...ListConfig) (*collectortest.World, func()) {
			w := collectortest.NewWorld()
			d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), nil, func(o *Options) {
				o.Lists, o.Store, o.MaxAge = lists, store, 0
			})
			_, stop := start(t, w, d, time.Hour)
			synctest.Wait()
			return w, stop
		}
		_, stop := begin(listOf("c2", 15*time.Minute, "a.example", "b.example"), listOf("daily", 24*time.Hour, "c.example"))
		time.Sleep(3*time.Hour + 10*time.Second)
		stop()
		api.reset()
		w, stop := begin(listOf("hourly", time.Hour, "a.example", "c.example"), listOf("new", 2*time.Hour, "d.example"))
		got := w.Exposed(t)
		for series, want := range map[string]string{
			`mde_watched_domain_machines{domain="a.example",tenant="contoso"}`:           "1",
			`mde_watched_domain_machines{domain="b.example",tenant="contoso"}`:           "", // On no list.
			`mde_watched_domain_machines{domain="c.example",tenant="contoso"}`:           "", // Three hours old, the max_age of its list.
			`mde_watched_domain_info{domain="a.example",list="hourly",tenant="contoso"}`: "1",
			`mde_watched_domain_info{domain="a.example",list="c2",tenant="contoso"}`:     "",
		} {
			if value := collectortest.Value(got, series); value != want {
				t.Errorf("%s is %q, want %q", series, value, want)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		lookups := api.byDomain()
		if len(lookups["a.example"]) != 0 || len(lookups["c.example"]) != 1 || len(lookups["d.example"]) != 1 {
			t.Errorf("looked up immediately: %v", lookups)
		}
		stop()
	})
}

func TestDomainMayMoveDuringItsLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := newFakeAPI()
		api.latency = func() time.Duration { return 10 * time.Second }
		list := newFakeListFile("a.example")
		d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), nil, list.watch, func(o *Options) {
			o.Interval, o.MaxAge = 10*time.Minute, 0
			o.Lists = []ListConfig{listOf("hourly", time.Hour, "a.example", "b.example")}
		})
		start(t, w, d, 10*time.Minute)
		time.Sleep(time.Second)
		list.set(d, "b.example") // Both lookups are in progress.
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		for domain, want := range map[string]int{"a.example": 4, "b.example": 19} {
			if n := len(api.byDomain()[domain]); n < want-1 || n > want+1 {
				t.Errorf("%s was looked up %d times in three hours, want %d", domain, n, want)
			}
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if sum := d.lists[0].turns.domains + d.lists[1].turns.domains; sum != 2 || d.unqueried != 0 || d.unread() != 0 {
			t.Errorf("%d domains have turns, %d are unqueried, %d unread", sum, d.unqueried, d.unread())
		}
	})
}

func TestOnlyStretchedListsAreWarnedAbout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		d := newDomains(w, newFakeAPI().client(t, emptyLedger{}, w.Tenant), domainNames(2000), func(o *Options) {
			o.MaxAge = 0
			o.Lists = []ListConfig{listOf("c2", 15*time.Minute, "c2.example"), listOf("daily", 24*time.Hour, "daily.example")}
		})
		r, _ := start(t, w, d, time.Hour)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		notes := fmt.Sprint(r.Status().Page.Notes)
		if strings.Count(w.Log.String(), "Call quota too small for the interval") != 1 || strings.Count(notes, "too small for the interval of watch list default: 2,000 domains") != 1 {
			t.Errorf("notes %s\n%s", notes, w.Log)
		}
	})
}

// brokenDomain is a transport that breaks the connections of one domain while it fails.
type brokenDomain struct {
	*fakeAPI
	domain string
	fails  atomic.Bool
}

func (s *brokenDomain) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.Path, s.domain) && s.fails.Load() {
		return nil, io.ErrUnexpectedEOF
	}
	return s.fakeAPI.RoundTrip(r)
}

func TestFailureOfShortListIsReportedWithinItsInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := &brokenDomain{fakeAPI: newFakeAPI(), domain: "c2.example"}
		d := newDomains(w, newClient(t, api, emptyLedger{}, w.Tenant), domainNames(20), func(o *Options) {
			o.Logger, o.Interval, o.MaxAge = slog.New(slog.DiscardHandler), 24*time.Hour, 0
			o.Lists = []ListConfig{listOf("c2", 15*time.Minute, "c2.example")}
		})
		r, _ := start(t, w, d, 24*time.Hour)
		time.Sleep(5 * time.Hour)
		synctest.Wait()
		if domainsMetric(t, w, "mde_refresh_success") != "1" {
			t.Fatalf("status %+v", r.Status())
		}
		api.fails.Store(true)
		time.Sleep(32 * time.Minute)
		synctest.Wait()
		if s := r.Status(); domainsMetric(t, w, "mde_refresh_success") != "0" || !strings.Contains(s.Error, "1 of 21 domains, the first of them c2.example") {
			t.Errorf("half an hour later: status %+v", s)
		}
		api.fails.Store(false)
		time.Sleep(47 * time.Minute) // Retry pause, lookup and round.
		synctest.Wait()
		if domainsMetric(t, w, "mde_refresh_success") != "1" {
			t.Errorf("three intervals after it recovered: status %+v", r.Status())
		}
	})
}

func TestListShowsTheDomainsOfItsConfigurationAndOfItsFiles(t *testing.T) {
	for name, own := range map[string][]string{"files": nil, "both": {"own.example"}} {
		w, list := collectortest.NewWorld(), newFakeListFile("file.example")
		d := newDomains(w, &quickDomains{}, nil, list.watch, func(o *Options) { o.Domains = own })
		d.Reloaded()
		d.Start(t.Context(), w.Publisher(d))
		got := w.Exposed(t)
		for _, domain := range append([]string{"file.example"}, own...) {
			if collectortest.Value(got, `mde_watched_domain_info{domain="`+domain+`",list="default",tenant="contoso"}`) != "1" {
				t.Errorf("%s: %s is not on the list", name, domain)
			}
		}
	}
}

func TestShortenedListIsNotStretched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		list := newFakeListFile(domainNames(3000)...)
		d := newDomains(w, newFakeAPI().client(t, emptyLedger{}, w.Tenant), nil, list.watch)
		start(t, w, d, time.Hour)
		for _, step := range []struct {
			domains  int
			interval string
		}{{3000, "7216"}, {2000, "4810.667"}, {10, "3600"}} {
			list.set(d, domainNames(step.domains)...)
			synctest.Wait()
			if got := collectortest.Value(w.Exposed(t), `mde_watched_domain_list_interval_seconds{list="default",tenant="contoso"}`); got != step.interval {
				t.Errorf("interval of %d domains: %s s, want %s", step.domains, got, step.interval)
			}
		}
	})
}

func TestShortestIntervalDecidesForEveryDomainOfTwoLists(t *testing.T) {
	names := domainNames(50)
	d := newDomains(collectortest.NewWorld(), &quickDomains{}, nil, func(o *Options) {
		o.Lists = []ListConfig{listOf("daily", 24*time.Hour, names...), listOf("c2", 15*time.Minute, names...)}
	})
	for _, r := range d.Page().Table.Rows {
		if r.Group != "c2, daily" {
			t.Errorf("%s is on the lists %s", r.Name, r.Group)
		}
	}
}
