package domains

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

func TestNoteNamesFiveInvalidDomains(t *testing.T) {
	for invalid, more := range map[int]string{5: "", 6: "1 more"} {
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
		time.Sleep(1)
		check(false)
	})
}

func TestEveryDomainIsExposedHoweverManyThereAre(t *testing.T) {
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
