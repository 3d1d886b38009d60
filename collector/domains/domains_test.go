package domains

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/attention"
	"github.com/mde-exporter/mde_exporter/collector/states"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

// row returns a machine in the API's format.
func row(n int, more string) string {
	machine := id(n)
	return fmt.Sprintf(`{"id":%q,"computerDnsName":"host-%d.contoso.example"%s}`, hex.EncodeToString(machine[:]), n, more)
}

func page(rows ...string) string { return `{"value":[` + strings.Join(rows, ",") + `]}` }

// responses returns a func that returns the machines of some domains, and none for the
// others.
func responses(machines map[string]string) func(domain, what string) (int, string) {
	return func(domain, what string) (int, string) {
		if what == "stats" {
			return 200, `{"host":"` + domain + `","orgPrevalence":"4070","orgLastSeen":"2025-08-29T13:09:05Z"}`
		}
		if body, ok := machines[domain]; ok {
			return 200, body
		}
		return 200, page()
	}
}

// start runs a collector's refresher in the background until the test ends or stop is
// called.
func start(t *testing.T, w *collectortest.World, c collector.Collector, interval time.Duration) (r *collector.Refresher, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	r = w.Refresher(c, interval)
	go func() { defer close(done); r.Run(ctx) }()
	stop = func() {
		cancel()
		<-done
		synctest.Wait()
	}
	t.Cleanup(stop)
	return r, stop
}

func TestWatchedDomainsAreCountedAndJoinedWithTheFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		states := statesOf(w, &fakeStates{StateRows: collectortest.RowsOf(nil,
			state(1, "AntivirusNotReporting", "EdrImpairedCommunications"),
			state(2, "AntivirusNotReporting"),
			state(3),
			state(4, "AntivirusOff"),
		)})
		api := newFakeAPI()
		var many []string
		for i := range client.DomainMachinesLimit {
			many = append(many, row(1000+i, `,"riskScore":"Low"`))
		}
		api.respond = responses(map[string]string{
			"evil.example": page(
				row(1, `,"riskScore":"High","lastSeen":"2026-01-03T00:00:00Z"`),
				row(2, `,"riskScore":null,"lastSeen":"2026-01-04T00:00:00Z"`),
				row(3, `,"riskScore":"Weird","lastSeen":"2026-01-05T00:00:00Z"`),
				row(1, `,"riskScore":"High","lastSeen":"2026-01-06T00:00:00Z"`), // Duplicate.
				row(77, `,"riskScore":"None","lastSeen":"0001-01-01T00:00:00Z"`),
				`{"computerDnsName":"nameless"}`,
				`{"computerDnsName":"nameless"}`),
			"many.example": page(many...),
		})
		d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), []string{"evil.example", "many.example", "quiet.example"}, func(o *Options) {
			o.Attention, o.Statistics, o.MachineInfoLimit = attention.Of(w.Shared), true, 2
		})
		r, _ := start(t, w, d, time.Hour)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.Exposed(t); strings.Contains(got, "machines_attention") || r.Status().Error != "" {
			t.Errorf("before the fleet is available, status %+v:\n%s", r.Status(), got)
		}
		if err := w.Refresh(t.Context(), states); err != nil {
			t.Fatal(err)
		}
		collectortest.Golden(t, "domains.prom", w.Exposed(t))
		w.Lint(t)

		time.Sleep(46 * time.Minute) // The fleet has expired, the domains have not.
		synctest.Wait()
		got := w.Exposed(t)
		if strings.Contains(got, "machines_attention") || collectortest.Value(got, `mde_watched_domain_machines{domain="evil.example",tenant="contoso"}`) != "6" {
			t.Errorf("with an expired fleet:\n%s", got)
		}
	})
}

func TestRiskScoresAreRecognizedInAnyCase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := newFakeAPI()
		api.respond = responses(map[string]string{"evil.example": page(row(1, `,"riskScore":"high"`), row(2, `,"riskScore":"HIGH"`), row(3, `,"riskScore":"odd"`))})
		start(t, w, newDomains(w, api.client(t, emptyLedger{}, w.Tenant), []string{"evil.example"}), time.Hour)
		time.Sleep(time.Minute)
		synctest.Wait()
		for score, want := range map[string]string{"High": "2", "high": "", "odd": "1"} {
			if got := collectortest.Value(w.Exposed(t), `mde_watched_domain_machines_risk{domain="evil.example",risk_score="`+score+`",tenant="contoso"}`); got != want {
				t.Errorf("%s counts %q machines, want %q", score, got, want)
			}
		}
	})
}

func TestFailingDomainDoesNotAffectOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := newFakeAPI()
		broken := false
		api.respond = func(domain, _ string) (int, string) {
			if domain == "b.example" && broken {
				return 400, `{"error":{"code":"InvalidInput","message":"as scripted"}}`
			}
			return 200, page(row(1, ""))
		}
		d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), []string{"a.example", "b.example", "c.example"})
		r, _ := start(t, w, d, time.Hour)
		time.Sleep(time.Minute)
		api.mu.Lock()
		broken = true
		api.mu.Unlock()
		success := func(domain string) string {
			return collectortest.Value(w.Exposed(t), `mde_watched_domain_last_success_timestamp_seconds{domain="`+domain+`",tenant="contoso"}`)
		}
		before := success("b.example")
		time.Sleep(150 * time.Minute)
		synctest.Wait()
		s := r.Status()
		if s.Error == "" || !strings.Contains(s.Error, "1 of 3 domains, the first of them b.example") || s.Reason != client.ReasonOther {
			t.Errorf("status %+v", s)
		}
		got := w.Exposed(t)
		if success("b.example") != before || collectortest.Value(got, `mde_watched_domain_machines{domain="b.example",tenant="contoso"}`) != "1" {
			t.Errorf("the last value of the failing domain is missing:\n%s", got)
		}
		for _, domain := range []string{"a.example", "c.example"} {
			lookups := api.byDomain()[domain]
			if n := len(lookups); n < 3 || n > 4 {
				t.Errorf("%s was looked up %d times in 2.5 hours, interval 1h", domain, n)
			}
			for i := 1; i < len(lookups); i++ {
				if gap := lookups[i].Sub(lookups[i-1]); gap > time.Hour+time.Minute {
					t.Errorf("%s waited %s", domain, gap)
				}
			}
		}
		if n := len(api.byDomain()["b.example"]); n < 5 || n > 10 {
			t.Errorf("the failing domain was looked up %d times", n)
		}
		time.Sleep(30 * time.Minute)
		got = w.Exposed(t)
		if collectortest.Value(got, `mde_watched_domain_machines{domain="b.example",tenant="contoso"}`) != "" || success("b.example") != before {
			t.Errorf("three hours after its last success:\n%s", got)
		}
		api.mu.Lock()
		broken = false
		api.mu.Unlock()
		time.Sleep(61 * time.Minute)
		if success("b.example") == before {
			t.Error("the domain did not recover within an interval")
		}
	})
}

func TestHangingDomainDoesNotDelayOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := &hangingDomain{fakeAPI: newFakeAPI(), domain: "d00000.example"}
		c := newClient(t, api, emptyLedger{}, w.Tenant)
		d := newDomains(w, c, domainNames(60), func(o *Options) { o.Interval = 10 * time.Minute })
		start(t, w, d, 10*time.Minute)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := len(api.byDomain()); n != 59 {
			t.Errorf("%d of the 59 other domains were looked up in the first five seconds", n)
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		for domain, lookups := range api.byDomain() {
			for i := 1; i < len(lookups) && domain != api.domain; i++ {
				if gap := lookups[i].Sub(lookups[i-1]); gap > 10*time.Minute+20*time.Second {
					t.Errorf("%s waited %s", domain, gap)
				}
			}
		}
	})
}

func TestOutageDoesNotSpendTheQuota(t *testing.T) {
	const domains = 200
	for name, tc := range map[string]struct {
		status int
		body   string
		reason client.Reason
		calls  int // Limit for the six hours of the outage.
	}{
		"server errors":     {503, "", client.ReasonServer, 120},
		"connection errors": {0, "", client.ReasonNetwork, 120},
		"role revoked":      {403, `{"error":{"code":"Forbidden"}}`, client.ReasonForbidden, 60},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := collectortest.NewWorld()
				api := newFakeAPI()
				down := false
				api.respond = func(string, string) (int, string) {
					if down {
						return tc.status, tc.body
					}
					return 200, page()
				}
				d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), domainNames(domains))
				r, _ := start(t, w, d, time.Hour)
				time.Sleep(2 * time.Hour)
				api.mu.Lock()
				down = true
				api.mu.Unlock()
				before := len(api.callsOf("machines"))
				time.Sleep(6 * time.Hour)
				api.mu.Lock()
				down = false
				api.mu.Unlock()
				during := len(api.callsOf("machines")) - before
				api.reset()
				if during > tc.calls || during < 6 {
					t.Errorf("%d calls in six hours of outage", during)
				}
				if s := r.Status(); s.Reason != tc.reason || s.ConsecutiveFailures < 5 {
					t.Errorf("status %+v", s)
				}
				if n := strings.Count(w.Log.String(), "\n"); n > 30 {
					t.Errorf("%d lines in the log:\n%s", n, w.Log)
				}
				time.Sleep(2 * time.Hour)
				if n := len(api.byDomain()); n != domains {
					t.Errorf("%d of %d domains were looked up in the two hours after the outage", n, domains)
				}
			})
		})
	}
}

func TestInvalidSecretAbortsTheRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		f := &refusedDomains{}
		d := newDomains(w, f, domainNames(500))
		r, _ := start(t, w, d, time.Hour)
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if f.count() > maxInFlight || !r.Ready() || r.Status().Reason != client.ReasonAuth {
			t.Errorf("%d lookups in the first minute, status %+v", f.count(), r.Status())
		}
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		if f.count() > maxInFlight+24 {
			t.Errorf("%d lookups in ten hours", f.count())
		}
	})
}

func TestListChangesDuringLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := newFakeAPI()
		api.respond = responses(nil)
		store := &collector.MemoryStore{}
		list := newFakeListFile("a.example", "b.example")
		d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), nil, list.watch, func(o *Options) { o.Store = store })
		start(t, w, d, time.Hour)
		time.Sleep(time.Minute)
		list.set(d, "b.example", "c.example")
		if got := w.Exposed(t); strings.Contains(got, "a.example") || collectortest.Value(got, `mde_watched_domains{tenant="contoso"}`) != "2" {
			t.Errorf("immediately after the change:\n%s", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := w.Exposed(t); collectortest.Value(got, `mde_watched_domain_machines{domain="c.example",tenant="contoso"}`) != "0" {
			t.Errorf("a second after the change:\n%s", got)
		}
		if n := len(api.byDomain()["b.example"]); n != 1 {
			t.Errorf("a remaining domain was looked up %d times", n)
		}
		if collectortest.Stored(store, "watched_domains/a.example") != "" || collectortest.Stored(store, "watched_domains/c.example") == "" {
			t.Error("the store keeps a.example or lacks c.example")
		}
		list.set(d)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if got := w.Exposed(t); strings.Contains(got, ".example") || collectortest.Value(got, `mde_watched_domains{tenant="contoso"}`) != "0" {
			t.Errorf("with an empty list:\n%s", got)
		}
		list.set(d, "a.example")
		time.Sleep(time.Second)
		synctest.Wait()
		if got := d.Page().Table.Rows; len(got) != 1 || got[0].Name != "a.example" || got[0].At.IsZero() {
			t.Errorf("after the list was filled again: %+v", got)
		}
	})
}

func TestEmptyListRefreshesSuccessfully(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		r, _ := start(t, w, newDomains(w, newFakeAPI().client(t, nil, w.Tenant), nil), time.Hour)
		synctest.Wait()
		if !r.Ready() {
			t.Error("not ready")
		}
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		if n := r.Status().Refreshes; n < 10 || n > 11 {
			t.Errorf("%d refreshes in ten hours", n)
		}
	})
}

func TestRestartResumesTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &collector.MemoryStore{}
		names := domainNames(60)
		api := newFakeAPI()
		api.respond = responses(map[string]string{"d00007.example": page(row(1, ""), row(2, ""))})
		w := collectortest.NewWorld()
		keep := func(o *Options) { o.Store = store }
		_, stop := start(t, w, newDomains(w, api.client(t, emptyLedger{}, w.Tenant), names, keep), time.Hour)
		time.Sleep(90 * time.Minute)
		stop()
		before := w.Exposed(t)
		api.reset()
		stopped := time.Now()
		time.Sleep(10 * time.Minute)

		w = collectortest.NewWorld()
		list := append(slices.Delete(slices.Clone(names), 3, 4), "new.example")
		// The latency ensures that no overdue domain is confirmed before the exposition
		// is read.
		api.latency = func() time.Duration { return 100 * time.Millisecond }
		r, _ := start(t, w, newDomains(w, api.client(t, emptyLedger{}, w.Tenant), list, keep), time.Hour)
		synctest.Wait()
		after := w.Exposed(t)
		for _, series := range []string{
			`mde_watched_domain_machines{domain="d00007.example",tenant="contoso"}`,
			`mde_watched_domain_last_success_timestamp_seconds{domain="d00007.example",tenant="contoso"}`,
			`mde_watched_domain_last_success_timestamp_seconds{domain="d00059.example",tenant="contoso"}`,
		} {
			if was, is := collectortest.Value(before, series), collectortest.Value(after, series); was == "" || was != is {
				t.Errorf("%s changed from %q to %q", series, was, is)
			}
		}
		if strings.Contains(after, "d00003.example") || collectortest.Stored(store, "watched_domains/d00003.example") != "" {
			t.Error("a domain that was removed during the stop still exists")
		}
		if s := r.Status(); s.LastSuccess.IsZero() || !s.LastSuccess.Before(stopped) {
			t.Errorf("last success %s", s.LastSuccess)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(api.byDomain()["new.example"]) != 1 {
			t.Error("the new domain was not looked up immediately")
		}
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		if n := len(api.callsOf("machines")); n > 60+90+1+70 { // Initial lookups, one a minute, the new domain, one a minute, and ten overdue ones.
			t.Errorf("%d calls in total", n)
		}
		if n := len(api.byDomain()); n < 59 {
			t.Errorf("%d of 60 domains were looked up in the hour after the restart", n)
		}
	})
}

func TestRestartServesTheJoinUntilTheFleetExpires(t *testing.T) {
	const join = `mde_watched_domain_machines_attention{domain="evil.example",property="AntivirusOff",tenant="contoso"}`
	const success = `mde_watched_domain_last_success_timestamp_seconds{domain="evil.example",tenant="contoso"}`
	synctest.Test(t, func(t *testing.T) {
		store := &collector.MemoryStore{}
		api := newFakeAPI()
		api.respond = responses(map[string]string{"evil.example": page(row(1, ""), row(2, ""))})
		begin := func() (w *collectortest.World, states *states.Collector, stop func()) {
			w = collectortest.NewWorld()
			states = statesOf(w, &fakeStates{StateRows: collectortest.RowsOf(nil, state(1, "AntivirusOff"))}, func(o *statesOptions) { o.Store = store })
			states.Start(t.Context(), w.Publisher(states))
			_, stop = start(t, w, newDomains(w, api.client(t, emptyLedger{}, w.Tenant), []string{"evil.example"}, func(o *Options) {
				o.Store, o.Attention, o.Interval = store, attention.Of(w.Shared), 10*time.Minute
			}), 10*time.Minute)
			synctest.Wait()
			return w, states, stop
		}
		w, states, stop := begin()
		if err := w.Refresh(t.Context(), states); err != nil { // After the domain's lookup.
			t.Fatal(err)
		}
		confirmed := collectortest.Value(w.Exposed(t), success)
		stop()
		api.respond = responses(map[string]string{"evil.example": page(row(2, ""), row(1, ""))})

		w, _, stop = begin()
		if got := collectortest.Value(w.Exposed(t), join); got != "1" {
			t.Errorf("attention after a restart %q, want 1", got)
		}
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		if got := w.Exposed(t); collectortest.Value(got, join) != "1" || collectortest.Value(got, success) == confirmed {
			t.Errorf("same machines confirmed without the fleet's machines:\n%s", got)
		}
		api.mu.Lock()
		api.respond = responses(map[string]string{"evil.example": page(row(1, ""))})
		api.mu.Unlock()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if got := collectortest.Value(w.Exposed(t), join); got != "" {
			t.Errorf("attention of other machines without the fleet's machines %q, want none", got)
		}
		confirmed = collectortest.Value(w.Exposed(t), success)
		stop()

		api.respond = func(string, string) (int, string) { return 500, "" }
		time.Sleep(4 * time.Hour)
		w, _, _ = begin()
		if got := w.Exposed(t); collectortest.Value(got, success) != confirmed || strings.Contains(got, "mde_watched_domain_machines{") {
			t.Errorf("after a restart past max_age, want only the time %s:\n%s", confirmed, got)
		}
	})
}

func TestInvalidStoredResultsAreIgnored(t *testing.T) {
	at := time.Now().Format(time.RFC3339)
	for name, text := range map[string]string{
		"no object":               `3`,
		"no time":                 `{"machines":3}`,
		"a time in the future":    `{"at":"2999-01-01T00:00:00Z","machines":3}`,
		"half an id":              `{"at":"` + at + `","machines":3,"ids":"AAAA"}`,
		"a negative count":        `{"at":"` + at + `","machines":-3}`,
		"attention without names": `{"at":"` + at + `","machines":3,"attention":{"machines":[1]}}`,
		"millions of machines":    `{"at":"` + at + `","machines":4050001}`,
	} {
		t.Run(name, func(t *testing.T) {
			w := collectortest.NewWorld()
			d := newDomains(w, newFakeAPI().client(t, nil, w.Tenant), []string{"a.example"}, func(o *Options) {
				o.Store = &collector.MemoryStore{Values: map[string]string{
					"watched_domains": `{"domains":["a.example"]}`, "watched_domains/a.example": text,
				}}
			})
			d.Start(t.Context(), w.Publisher(d))
			got := strings.Replace(w.Exposed(t), `mde_watched_domain_info{domain="a.example",list="default",tenant="contoso"} 1`, "", 1)
			if strings.Contains(got, "a.example") {
				t.Errorf("exposed:\n%s", got)
			}
			if w.Log.String() == "" {
				t.Error("nothing logged")
			}
		})
	}
}

func TestMissingStatisticsRoleDoesNotAffectCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := newFakeAPI()
		granted := false
		api.respond = func(domain, what string) (int, string) {
			if what == "stats" && !granted {
				return 403, `{"error":{"code":"Forbidden","message":"missing"}}`
			}
			return responses(nil)(domain, what)
		}
		d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), domainNames(30), func(o *Options) { o.Statistics = true })
		r, _ := start(t, w, d, time.Hour)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(api.callsOf("stats")); n > maxInFlight || r.Status().Failures > 0 {
			t.Errorf("%d refused calls for statistics, status %+v", n, r.Status())
		}
		if notes := r.Status().Page.Notes; len(notes) != 1 || !strings.Contains(notes[0], "URL.Read.All") {
			t.Errorf("notes %q", notes)
		}
		if n := strings.Count(w.Log.String(), "Domain statistics unavailable"); n != 1 {
			t.Errorf("logged %d times, want once", n)
		}
		api.mu.Lock()
		granted = true
		api.mu.Unlock()
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		got := w.Exposed(t)
		if collectortest.Value(got, `mde_watched_domain_prevalence{domain="d00011.example",tenant="contoso"}`) != "4070" || len(r.Status().Page.Notes) != 0 {
			t.Errorf("after the role was granted, notes %q:\n%s", r.Status().Page.Notes, got)
		}
	})
}

func TestListBeyondTheQuotaIsStretchedAndWarnedAboutOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		list := newFakeListFile(domainNames(2000)...)
		d := newDomains(w, newFakeAPI().client(t, emptyLedger{}, w.Tenant), nil, list.watch)
		r, _ := start(t, w, d, time.Hour)
		time.Sleep(90 * time.Minute)
		synctest.Wait()
		if got := collectortest.Value(w.Exposed(t), `mde_watched_domains_interval_seconds{tenant="contoso"}`); got != "4810.667" {
			t.Errorf("interval %s", got)
		}
		if n := strings.Count(w.Log.String(), "list=default domains=2000 interval=1h0m0s lookups_take=1h20m11s"); n != 1 {
			t.Errorf("warned %d times, want once:\n%s", n, w.Log)
		}
		if notes := r.Status().Page.Notes; len(notes) != 1 || !strings.Contains(notes[0], "2,000 domains") {
			t.Errorf("notes %q", notes)
		}
		list.set(d, domainNames(10)...)
		synctest.Wait()
		if notes := r.Status().Page.Notes; len(notes) != 0 || collectortest.Value(w.Exposed(t), `mde_watched_domains_interval_seconds{tenant="contoso"}`) != "3600" {
			t.Errorf("with a shorter list: notes %q", notes)
		}
	})
}

func TestDomainsAreSpreadEvenlyOverTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		api := newFakeAPI()
		start(t, w, newDomains(w, api.client(t, emptyLedger{}, w.Tenant), domainNames(60)), time.Hour)
		time.Sleep(5 * time.Hour)
		synctest.Wait()
		calls := api.callsOf("machines")
		if n := len(calls); n < 60+4*60-1 || n > 60+5*60 {
			t.Errorf("%d calls in five hours", n)
		}
		for i := 61; i < len(calls); i++ {
			if gap := calls[i].Sub(calls[i-1]); gap < 58*time.Second || gap > 62*time.Second {
				t.Errorf("call %d: %s after the previous one", i, gap)
			}
		}
	})
}

func TestStartWithoutLedgerBurstsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI()
		// A crash loop: no start has the calls of the previous ones.
		for range 5 {
			w := collectortest.NewWorld()
			_, stop := start(t, w, newDomains(w, api.client(t, nil, w.Tenant), domainNames(1000)), time.Hour)
			time.Sleep(2 * time.Minute)
			stop()
		}
		if n := len(api.callsOf("machines")); n > 5*(100+2*25) {
			t.Errorf("%d calls in ten minutes of five starts", n)
		}
	})
}

func TestShutdownEndsTheRoundImmediately(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, after := range []time.Duration{0, 50 * time.Millisecond, 10 * time.Second, 70 * time.Second, 3 * time.Hour} {
			w := collectortest.NewWorld()
			api := newFakeAPI()
			api.latency = func() time.Duration { return 20 * time.Second }
			r, stop := start(t, w, newDomains(w, api.client(t, nil, w.Tenant), domainNames(1000)), time.Hour)
			time.Sleep(after)
			start := time.Now()
			stop()
			if took := time.Since(start); took > 0 || r.Status().Failures > 0 {
				t.Errorf("stop after %s took %s, status %+v", after, took, r.Status())
			}
		}
	})
}

func TestSummaryCountsFreshResults(t *testing.T) {
	now := time.Now()
	contacted, quiet := &domainResult{Machines: 3, At: now}, &domainResult{At: now}
	withdrawn, invalid := &domainResult{At: now.Add(-9 * time.Hour)}, &domainResult{Invalid: now}
	var never *domainResult
	for _, test := range []struct {
		domains []*domainResult
		want    string
	}{
		{nil, "0 domains, 0 contacted"},
		{[]*domainResult{never, never}, "2 domains, 2 unknown"},
		{[]*domainResult{withdrawn, withdrawn}, "2 domains, 2 unknown"},
		{[]*domainResult{quiet, quiet}, "2 domains, 0 contacted"},
		{[]*domainResult{contacted, quiet, withdrawn, never, invalid}, "5 domains, 1 contacted, 2 unknown, 1 invalid"},
		{[]*domainResult{invalid}, "1 domain, 1 invalid"},
	} {
		d := newDomains(collectortest.NewWorld(), &quickDomains{}, domainNames(len(test.domains)))
		for i, r := range test.domains {
			d.sorted[i].touch()
			d.sorted[i].result = r
		}
		if got := d.Page().Summary; got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
	if got, want := domainsSummary(12345, 9000, 1234, 1000), "12,345 domains, 1,234 contacted, 2,345 unknown, 1,000 invalid"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
