package domains

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

func TestNoteNamesFiveInvalidDomains(t *testing.T) {
	for invalid, more := range map[int]string{5: "", 6: ", 1 more"} {
		synctest.Test(t, func(t *testing.T) {
			w, api := collectortest.NewWorld(), newFakeAPI()
			api.respond = func(string, string) (int, string) { return 400, `{"error":{"code":"InvalidDomainName"}}` }
			r, _ := start(t, w, newDomains(w, api.client(t, emptyLedger{}, w.Tenant), domainNames(invalid)), time.Hour)
			time.Sleep(time.Minute)
			synctest.Wait()
			notes := strings.Join(r.Status().Page.Notes, "\n")
			if strings.Count(notes, ".example") != 5 || strings.Contains(notes, "more") != (more != "") || !strings.Contains(notes, more) {
				t.Errorf("of %d invalid domains: %s", invalid, notes)
			}
		})
	}
}

func TestRoundErrorNamesFiveDomains(t *testing.T) {
	for failing, more := range map[int]bool{5: false, 6: true} {
		synctest.Test(t, func(t *testing.T) {
			w, api := collectortest.NewWorld(), newFakeAPI()
			api.respond = func(domain, _ string) (int, string) {
				if domain < fmt.Sprintf("d%05d", failing) {
					return 200, "no JSON"
				}
				return 200, page()
			}
			r, _ := start(t, w, newDomains(w, api.client(t, emptyLedger{}, w.Tenant), domainNames(20)), time.Hour)
			time.Sleep(time.Minute)
			synctest.Wait()
			if s := r.Status().Error; strings.Contains(s, "more") != more || !strings.Contains(s, "; d00004.example: ") || strings.Contains(s, "d00005") {
				t.Errorf("of %d failed domains: %s", failing, s)
			}
		})
	}
}

func TestPageShowsCountsUpToTheirMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, api := collectortest.NewWorld(), newFakeAPI()
		var answered atomic.Bool
		api.respond = func(string, string) (int, string) {
			if answered.CompareAndSwap(false, true) {
				return 200, page(row(1, ""))
			}
			return 500, ""
		}
		d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), []string{"a.example"})
		start(t, w, d, time.Hour)
		synctest.Wait()
		check := func(known bool) {
			t.Helper()
			p := d.Page()
			r := p.Table.Rows[0]
			if r.Known != known || r.Marked != known || (r.Instead == "withdrawn") == known || (p.MaxAge == 0) != known || r.Group != "" {
				t.Errorf("max_age %s, row %+v", p.MaxAge, r)
			}
			exposed := collectortest.Value(w.Exposed(t), `mde_watched_domain_machines{domain="a.example",tenant="contoso"}`)
			if (exposed != "") != known {
				t.Errorf("%q machines are exposed", exposed)
			}
		}
		check(true)
		time.Sleep(time.Until(d.Page().Table.Rows[0].At.Add(3*time.Hour - 1)))
		check(true)
		time.Sleep(time.Nanosecond)
		check(false)
	})
}

func TestAllDomainsAreExposed(t *testing.T) {
	for _, n := range []int{0, 1, 255, 256, 257} {
		w := collectortest.NewWorld()
		refreshOnce(t, w, newDomains(w, &quickDomains{}, domainNames(n)))
		if got := strings.Count(w.Exposed(t), "mde_watched_domain_machines{"); got != n {
			t.Errorf("%d of %d domains are exposed", got, n)
		}
	}
}

func TestListWithoutDomainsDoesNotShortenARound(t *testing.T) {
	for domain, want := range map[string]int{"": 3, "c2.example": 30} {
		synctest.Test(t, func(t *testing.T) {
			w := collectortest.NewWorld()
			d := newDomains(w, newFakeAPI().client(t, emptyLedger{}, w.Tenant), domainNames(10), func(o *Options) {
				c2 := listOf("c2", 6*time.Minute)
				if domain != "" {
					c2.Domains = []string{domain}
				}
				o.Lists = []ListConfig{c2}
			})
			r, _ := start(t, w, d, time.Hour)
			time.Sleep(3*time.Hour + time.Minute)
			synctest.Wait()
			if n := r.Status().Refreshes; n < want-1 || n > want+2 {
				t.Errorf("with the domain %q on the list, %d refreshes in three hours, want %d", domain, n, want)
			}
		})
	}
}

func TestMistakesInFilesAreShown(t *testing.T) {
	mistakes := []collector.Mistake{{File: "list.txt", Line: 2, Message: "is a URL"}}
	for name, tc := range map[string]struct {
		list       *List
		note, read string
	}{
		"a valid list":             {&List{}, "", "1"},
		"a list with mistakes":     {&List{Mistakes: mistakes}, "Only the valid lines of the watch list are in force: list.txt:2: is a URL", "0"},
		"a list that stays behind": {&List{Mistakes: mistakes, Old: true}, "The last valid watch list is in force: list.txt:2: is a URL", "0"},
	} {
		w, list := collectortest.NewWorld(), newFakeListFile()
		d := newDomains(w, &quickDomains{}, nil, list.watch)
		list.files.lists["list.txt"].list = tc.list
		d.Start(t.Context(), w.Publisher(d))
		read := collectortest.Value(w.Exposed(t), `mde_watched_domains_list_last_read_successful{tenant="contoso"}`)
		if notes := strings.Join(d.Page().Notes, "\n"); notes != tc.note || read != tc.read {
			t.Errorf("%s: notes %q, read %s", name, notes, read)
		}
	}
}

func TestRunningCollectorFollowsItsFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, list := collectortest.NewWorld(), newFakeListFile("a.example")
		start(t, w, newDomains(w, newFakeAPI().client(t, emptyLedger{}, w.Tenant), nil, list.watch), time.Hour)
		time.Sleep(time.Minute)
		list.setDomains([]string{"b.example"})
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if got := w.Exposed(t); strings.Contains(got, "a.example") || collectortest.Value(got, `mde_watched_domain_machines{domain="b.example",tenant="contoso"}`) != "0" {
			t.Errorf("exposed:\n%s", got)
		}
	})
}

func TestPageCountsTheDomainsThatWereQueried(t *testing.T) {
	w := collectortest.NewWorld()
	d := newDomains(w, &quickDomains{}, domainNames(3))
	if p := d.Page().Progress; p.Done != 0 || p.Total != 3 {
		t.Errorf("before the first lookup %d of %d", p.Done, p.Total)
	}
	refreshOnce(t, w, d)
	if p := d.Page().Progress; p.Done != 3 || p.Total != 3 {
		t.Errorf("after a round %d of %d", p.Done, p.Total)
	}
}

func TestTwentyUndocumentedRiskScoresAreExposed(t *testing.T) {
	for scores, other := range map[int]bool{20: false, 30: true} {
		var machines []client.Machine
		for i := range scores {
			machines = append(machines, client.Machine{ID: id(i + 1), RiskScore: fmt.Append(nil, "Score ", i)})
		}
		w := collectortest.NewWorld()
		refreshOnce(t, w, newDomains(w, &quickDomains{machines: machines}, []string{"a.example"}))
		if got := w.Exposed(t); strings.Contains(got, `risk_score="other"`) != other || !strings.Contains(got, `risk_score="Score 19"`) {
			t.Errorf("of %d scores:\n%s", scores, got)
		}
	}
}

func TestRoundEndsWithItsLastDomain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &collector.MemoryStore{}
		begin := func() (*collector.Refresher, func()) {
			w := collectortest.NewWorld()
			return start(t, w, newDomains(w, newFakeAPI().client(t, emptyLedger{}, w.Tenant), domainNames(10), func(o *Options) { o.Store = store }), time.Hour)
		}
		_, stop := begin()
		time.Sleep(time.Minute)
		stop()
		time.Sleep(50 * time.Minute)
		r, _ := begin() // All domains are due in nine minutes.
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		if n := r.Status().Refreshes; n != 1 {
			t.Errorf("%d rounds in the first quarter of an hour, want 1", n)
		}
	})
}
