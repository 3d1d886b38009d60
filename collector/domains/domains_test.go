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

// row is a machine as the API sends it.
func row(n int, more string) string {
	machine := id(n)
	return fmt.Sprintf(`{"id":%q,"computerDnsName":"host-%d.contoso.example"%s}`, hex.EncodeToString(machine[:]), n, more)
}

func page(rows ...string) string { return `{"value":[` + strings.Join(rows, ",") + `]}` }

// answers is a far end that knows some domains; the others are never seen.
func answers(machines map[string]string) func(domain, what string) (int, string) {
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

// start runs a collector's refresher in the background until the test ends, or
// until the returned function is called.
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
		far := newFarEnd()
		var many []string
		for i := range client.DomainMachinesLimit {
			many = append(many, row(1000+i, `,"riskScore":"Low"`))
		}
		far.answer = answers(map[string]string{
			"evil.example": page(
				row(1, `,"riskScore":"High","lastSeen":"2026-01-03T00:00:00Z"`),
				row(2, `,"riskScore":null,"lastSeen":"2026-01-04T00:00:00Z"`),
				row(3, `,"riskScore":"Weird","lastSeen":"2026-01-05T00:00:00Z"`),
				row(1, `,"riskScore":"High","lastSeen":"2026-01-06T00:00:00Z"`), // Once more.
				row(77, `,"riskScore":"None","lastSeen":"0001-01-01T00:00:00Z"`),
				`{"computerDnsName":"nameless"}`,
				`{"computerDnsName":"nameless"}`),
			"many.example": page(many...),
		})
		d := newDomains(w, far.client(t, emptyLedger{}, w.Tenant), []string{"evil.example", "many.example", "quiet.example"}, func(o *Options) {
			o.Attention, o.Statistics, o.MachineInfoLimit = attention.Of(w.Shared), true, 2
		})
		r, _ := start(t, w, d, time.Hour)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.Exposed(t); strings.Contains(got, "machines_attention") || r.Status().Error != "" {
			t.Errorf("before the fleet is known, status %+v:\n%s", r.Status(), got)
		}
		if err := w.Refresh(t.Context(), states); err != nil {
			t.Fatal(err)
		}
		collectortest.Golden(t, "domains.prom", w.Exposed(t))
		w.Lint(t)

		time.Sleep(46 * time.Minute) // The fleet is too old to be joined with; the domains are not.
		synctest.Wait()
		got := w.Exposed(t)
		if strings.Contains(got, "machines_attention") || collectortest.Value(got, `mde_watched_domain_machines{domain="evil.example",tenant="contoso"}`) != "6" {
			t.Errorf("with a fleet too old:\n%s", got)
		}
	})
}

func TestRiskScoresAreRecognizedInAnyCase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		far := newFarEnd()
		far.answer = answers(map[string]string{"evil.example": page(row(1, `,"riskScore":"high"`), row(2, `,"riskScore":"HIGH"`), row(3, `,"riskScore":"odd"`))})
		start(t, w, newDomains(w, far.client(t, emptyLedger{}, w.Tenant), []string{"evil.example"}), time.Hour)
		time.Sleep(time.Minute)
		synctest.Wait()
		for score, want := range map[string]string{"High": "2", "high": "", "odd": "1"} {
			if got := collectortest.Value(w.Exposed(t), `mde_watched_domain_machines_risk{domain="evil.example",risk_score="`+score+`",tenant="contoso"}`); got != want {
				t.Errorf("%s counts %q machines, want %q", score, got, want)
			}
		}
	})
}

func TestOneFailingDomainTouchesNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		far := newFarEnd()
		broken := false
		far.answer = func(domain, _ string) (int, string) {
			if domain == "b.example" && broken {
				return 400, `{"error":{"code":"InvalidInput","message":"as scripted"}}`
			}
			return 200, page(row(1, ""))
		}
		d := newDomains(w, far.client(t, emptyLedger{}, w.Tenant), []string{"a.example", "b.example", "c.example"})
		r, _ := start(t, w, d, time.Hour)
		time.Sleep(time.Minute)
		far.mu.Lock()
		broken = true
		far.mu.Unlock()
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
			t.Errorf("the last value of the broken domain is gone:\n%s", got)
		}
		for _, domain := range []string{"a.example", "c.example"} {
			asked := far.byDomain()[domain]
			if n := len(asked); n < 3 || n > 4 {
				t.Errorf("%s was asked %d times in two and a half hours at an interval of one", domain, n)
			}
			for i := 1; i < len(asked); i++ {
				if gap := asked[i].Sub(asked[i-1]); gap > time.Hour+time.Minute {
					t.Errorf("%s waited %s", domain, gap)
				}
			}
		}
		if n := len(far.byDomain()["b.example"]); n < 5 || n > 10 {
			t.Errorf("the broken domain was asked %d times", n)
		}
		time.Sleep(30 * time.Minute)
		got = w.Exposed(t)
		if collectortest.Value(got, `mde_watched_domain_machines{domain="b.example",tenant="contoso"}`) != "" || success("b.example") != before {
			t.Errorf("three hours after its last success:\n%s", got)
		}
		far.mu.Lock()
		broken = false
		far.mu.Unlock()
		time.Sleep(61 * time.Minute)
		if success("b.example") == before {
			t.Error("the domain did not recover within an interval")
		}
	})
}

func TestAHangingDomainDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		far := &hangingDomain{farEnd: newFarEnd(), domain: "d00000.example"}
		c := newClient(t, far, emptyLedger{}, w.Tenant)
		d := newDomains(w, c, domainNames(60), func(o *Options) { o.Interval = 10 * time.Minute })
		start(t, w, d, 10*time.Minute)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := len(far.byDomain()); n != 59 {
			t.Errorf("%d of the 59 other domains were asked in the first five seconds", n)
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		for domain, asked := range far.byDomain() {
			for i := 1; i < len(asked) && domain != far.domain; i++ {
				if gap := asked[i].Sub(asked[i-1]); gap > 10*time.Minute+20*time.Second {
					t.Errorf("%s waited %s", domain, gap)
				}
			}
		}
	})
}

func TestAnOutageDoesNotEmptyTheQuota(t *testing.T) {
	const domains = 200
	for name, tc := range map[string]struct {
		status int
		body   string
		reason client.Reason
		calls  int // At most, in the six hours of the outage.
	}{
		"the service is down":    {503, "", client.ReasonServer, 120},
		"connections break":      {0, "", client.ReasonNetwork, 120},
		"the role is taken away": {403, `{"error":{"code":"Forbidden"}}`, client.ReasonForbidden, 60},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := collectortest.NewWorld()
				far := newFarEnd()
				down := false
				far.answer = func(string, string) (int, string) {
					if down {
						return tc.status, tc.body
					}
					return 200, page()
				}
				d := newDomains(w, far.client(t, emptyLedger{}, w.Tenant), domainNames(domains))
				r, _ := start(t, w, d, time.Hour)
				time.Sleep(2 * time.Hour)
				far.mu.Lock()
				down = true
				far.mu.Unlock()
				before := len(far.callsOf("machines"))
				time.Sleep(6 * time.Hour)
				far.mu.Lock()
				down = false
				far.mu.Unlock()
				during := len(far.callsOf("machines")) - before
				far.forget()
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
				if n := len(far.byDomain()); n != domains {
					t.Errorf("%d of %d domains were asked in the two hours after the outage", n, domains)
				}
			})
		})
	}
}

func TestAWrongSecretStopsThePassAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		f := &refusedDomains{}
		d := newDomains(w, f, domainNames(500))
		r, _ := start(t, w, d, time.Hour)
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if f.count() > maxUnderway || !r.Ready() || r.Status().Reason != client.ReasonAuth {
			t.Errorf("%d lookups in the first minute, status %+v", f.count(), r.Status())
		}
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		if f.count() > maxUnderway+24 {
			t.Errorf("%d lookups in ten hours", f.count())
		}
	})
}

func TestTheListChangesWhileItIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		far := newFarEnd()
		far.answer = answers(nil)
		store := &collector.MemoryStore{}
		list := newListedFile("a.example", "b.example")
		d := newDomains(w, far.client(t, emptyLedger{}, w.Tenant), nil, list.watch, func(o *Options) { o.Store = store })
		start(t, w, d, time.Hour)
		time.Sleep(time.Minute)
		list.set(d, "b.example", "c.example")
		if got := w.Exposed(t); strings.Contains(got, "a.example") || collectortest.Value(got, `mde_watched_domains{tenant="contoso"}`) != "2" {
			t.Errorf("right after the change:\n%s", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := w.Exposed(t); collectortest.Value(got, `mde_watched_domain_machines{domain="c.example",tenant="contoso"}`) != "0" {
			t.Errorf("a second after the change:\n%s", got)
		}
		if n := len(far.byDomain()["b.example"]); n != 1 {
			t.Errorf("a domain that stayed was asked %d times", n)
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

func TestAnEmptyListIsAFinishedRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		r, _ := start(t, w, newDomains(w, newFarEnd().client(t, nil, w.Tenant), nil), time.Hour)
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

func TestARestartGoesOnWhereItStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &collector.MemoryStore{}
		names := domainNames(60)
		far := newFarEnd()
		far.answer = answers(map[string]string{"d00007.example": page(row(1, ""), row(2, ""))})
		w := collectortest.NewWorld()
		keep := func(o *Options) { o.Store = store }
		_, stop := start(t, w, newDomains(w, far.client(t, emptyLedger{}, w.Tenant), names, keep), time.Hour)
		time.Sleep(90 * time.Minute)
		stop()
		before := w.Exposed(t)
		far.forget()
		stopped := time.Now()
		time.Sleep(10 * time.Minute)

		w = collectortest.NewWorld()
		list := append(slices.Delete(slices.Clone(names), 3, 4), "new.example")
		// No domain that fell due in the meantime is confirmed before the exposition is read.
		far.latency = func() time.Duration { return 100 * time.Millisecond }
		r, _ := start(t, w, newDomains(w, far.client(t, emptyLedger{}, w.Tenant), list, keep), time.Hour)
		synctest.Wait()
		after := w.Exposed(t)
		for _, series := range []string{
			`mde_watched_domain_machines{domain="d00007.example",tenant="contoso"}`,
			`mde_watched_domain_last_success_timestamp_seconds{domain="d00007.example",tenant="contoso"}`,
			`mde_watched_domain_last_success_timestamp_seconds{domain="d00059.example",tenant="contoso"}`,
		} {
			if was, is := collectortest.Value(before, series), collectortest.Value(after, series); was == "" || was != is {
				t.Errorf("%s was %q and is %q", series, was, is)
			}
		}
		if strings.Contains(after, "d00003.example") || collectortest.Stored(store, "watched_domains/d00003.example") != "" {
			t.Error("a domain that left the list during the stop is still there")
		}
		if s := r.Status(); s.LastSuccess.IsZero() || !s.LastSuccess.Before(stopped) {
			t.Errorf("last success %s", s.LastSuccess)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(far.byDomain()["new.example"]) != 1 {
			t.Error("the new domain was not asked at once")
		}
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		if n := len(far.callsOf("machines")); n > 60+90+1+70 { // The fill, one a minute, the new one, one a minute and the ten that fell due.
			t.Errorf("%d calls in all", n)
		}
		if n := len(far.byDomain()); n < 59 {
			t.Errorf("%d of 60 domains were asked in the hour after the restart", n)
		}
	})
}

func TestARestartServesTheJoinUntilTheFleetIsTooOld(t *testing.T) {
	const join = `mde_watched_domain_machines_attention{domain="evil.example",property="AntivirusOff",tenant="contoso"}`
	const success = `mde_watched_domain_last_success_timestamp_seconds{domain="evil.example",tenant="contoso"}`
	synctest.Test(t, func(t *testing.T) {
		store := &collector.MemoryStore{}
		far := newFarEnd()
		far.answer = answers(map[string]string{"evil.example": page(row(1, ""), row(2, ""))})
		begin := func() (w *collectortest.World, states *states.Collector, stop func()) {
			w = collectortest.NewWorld()
			states = statesOf(w, &fakeStates{StateRows: collectortest.RowsOf(nil, state(1, "AntivirusOff"))})
			_, stop = start(t, w, newDomains(w, far.client(t, emptyLedger{}, w.Tenant), []string{"evil.example"}, func(o *Options) {
				o.Store, o.Attention, o.Interval = store, attention.Of(w.Shared), 10*time.Minute
			}), 10*time.Minute)
			synctest.Wait()
			return w, states, stop
		}
		w, states, stop := begin()
		if err := w.Refresh(t.Context(), states); err != nil { // After the domain was asked.
			t.Fatal(err)
		}
		confirmed := collectortest.Value(w.Exposed(t), success)
		stop()
		far.answer = answers(map[string]string{"evil.example": page(row(2, ""), row(1, ""))})

		w, _, stop = begin()
		if got := collectortest.Value(w.Exposed(t), join); got != "1" {
			t.Errorf("after a restart the attention is %q, want 1", got)
		}
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		if got := w.Exposed(t); collectortest.Value(got, join) != "1" || collectortest.Value(got, success) == confirmed {
			t.Errorf("the same machines were confirmed without a fleet:\n%s", got)
		}
		far.mu.Lock()
		far.answer = answers(map[string]string{"evil.example": page(row(1, ""))})
		far.mu.Unlock()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if got := collectortest.Value(w.Exposed(t), join); got != "" {
			t.Errorf("of other machines the attention is %q, want none without a fleet", got)
		}
		confirmed = collectortest.Value(w.Exposed(t), success)
		stop()

		far.answer = func(string, string) (int, string) { return 500, "" }
		time.Sleep(4 * time.Hour)
		w, _, _ = begin()
		if got := w.Exposed(t); collectortest.Value(got, success) != confirmed || strings.Contains(got, "mde_watched_domain_machines{") {
			t.Errorf("after a restart beyond max_age, want nothing but the time %s:\n%s", confirmed, got)
		}
	})
}

func TestAStoredResultThatMakesNoSenseIsSetAside(t *testing.T) {
	at := time.Now().Format(time.RFC3339)
	for name, text := range map[string]string{
		"no object":               `3`,
		"no time":                 `{"machines":3}`,
		"a time that is to come":  `{"at":"2999-01-01T00:00:00Z","machines":3}`,
		"half an id":              `{"at":"` + at + `","machines":3,"ids":"AAAA"}`,
		"a negative count":        `{"at":"` + at + `","machines":-3}`,
		"attention without names": `{"at":"` + at + `","machines":3,"attention":{"machines":[1]}}`,
		"millions of machines":    `{"at":"` + at + `","machines":4050001}`,
	} {
		t.Run(name, func(t *testing.T) {
			w := collectortest.NewWorld()
			d := newDomains(w, newFarEnd().client(t, nil, w.Tenant), []string{"a.example"}, func(o *Options) {
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
				t.Error("the log says nothing")
			}
		})
	}
}

func TestCountsGoOnWithoutTheRoleForStatistics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		far := newFarEnd()
		granted := false
		far.answer = func(domain, what string) (int, string) {
			if what == "stats" && !granted {
				return 403, `{"error":{"code":"Forbidden","message":"missing"}}`
			}
			return answers(nil)(domain, what)
		}
		d := newDomains(w, far.client(t, emptyLedger{}, w.Tenant), domainNames(30), func(o *Options) { o.Statistics = true })
		r, _ := start(t, w, d, time.Hour)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(far.callsOf("stats")); n > maxUnderway || r.Status().Failures > 0 {
			t.Errorf("%d calls for statistics were refused; status %+v", n, r.Status())
		}
		if notes := r.Status().Page.Notes; len(notes) != 1 || !strings.Contains(notes[0], "URL.Read.All") {
			t.Errorf("notes %q", notes)
		}
		if n := strings.Count(w.Log.String(), "Domain statistics unavailable"); n != 1 {
			t.Errorf("the log says so %d times", n)
		}
		far.mu.Lock()
		granted = true
		far.mu.Unlock()
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		got := w.Exposed(t)
		if collectortest.Value(got, `mde_watched_domain_prevalence{domain="d00011.example",tenant="contoso"}`) != "4070" || len(r.Status().Page.Notes) != 0 {
			t.Errorf("after the role was granted, notes %q:\n%s", r.Status().Page.Notes, got)
		}
	})
}

func TestAListBeyondTheQuotaIsStretchedAndToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		list := newListedFile(domainNames(2000)...)
		d := newDomains(w, newFarEnd().client(t, emptyLedger{}, w.Tenant), nil, list.watch)
		r, _ := start(t, w, d, time.Hour)
		time.Sleep(90 * time.Minute)
		synctest.Wait()
		if got := collectortest.Value(w.Exposed(t), `mde_watched_domains_interval_seconds{tenant="contoso"}`); got != "4810.667" {
			t.Errorf("interval %s", got)
		}
		if n := strings.Count(w.Log.String(), "2,000 domains, one call each 2.405s, take 1h20m11s instead of 1h0m0s"); n != 1 {
			t.Errorf("the log says so %d times:\n%s", n, w.Log)
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
		far := newFarEnd()
		start(t, w, newDomains(w, far.client(t, emptyLedger{}, w.Tenant), domainNames(60)), time.Hour)
		time.Sleep(5 * time.Hour)
		synctest.Wait()
		calls := far.callsOf("machines")
		if n := len(calls); n < 60+4*60-1 || n > 60+5*60 {
			t.Errorf("%d calls in five hours", n)
		}
		for i := 61; i < len(calls); i++ {
			if gap := calls[i].Sub(calls[i-1]); gap < 58*time.Second || gap > 62*time.Second {
				t.Errorf("call %d came %s after the one before", i, gap)
			}
		}
	})
}

func TestWithoutALedgerAStartBurstsOnceAndThenPaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := newFarEnd()
		// A crash loop: each start knows nothing of those before it.
		for range 5 {
			w := collectortest.NewWorld()
			_, stop := start(t, w, newDomains(w, far.client(t, nil, w.Tenant), domainNames(1000)), time.Hour)
			time.Sleep(2 * time.Minute)
			stop()
		}
		if n := len(far.callsOf("machines")); n > 5*(100+2*25) {
			t.Errorf("%d calls in ten minutes of five starts", n)
		}
	})
}

func TestARefreshOfDomainsEndsAtOnceOnShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, after := range []time.Duration{0, 50 * time.Millisecond, 10 * time.Second, 70 * time.Second, 3 * time.Hour} {
			w := collectortest.NewWorld()
			far := newFarEnd()
			far.latency = func() time.Duration { return 20 * time.Second }
			r, stop := start(t, w, newDomains(w, far.client(t, nil, w.Tenant), domainNames(1000)), time.Hour)
			time.Sleep(after)
			start := time.Now()
			stop()
			if took := time.Since(start); took > 0 || r.Status().Failures > 0 {
				t.Errorf("stopped after %s it took %s, status %+v", after, took, r.Status())
			}
		}
	})
}

func TestTheSummaryOfDomainsCountsOnlyWhatIsKnown(t *testing.T) {
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
		{[]*domainResult{invalid}, "1 domains, 1 invalid"},
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
