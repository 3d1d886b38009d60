package web

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/alerts"
	"github.com/mde-exporter/mde_exporter/collector"
)

// failingTenants returns a status of 200 tenants whose collectors all fail for
// the same reason. Each has 50 domains; one more domain is contacted in three
// tenants.
func failingTenants(now time.Time) Status {
	s := Status{Version: "1.2.3", Config: ConfigStatus{Source: "mde.yml", LoadedAt: now.Add(-time.Hour)}, Tenants: tenants(200, now)}
	for i := range s.Tenants {
		t := &s.Tenants[i]
		for j := range t.Collectors {
			c := &t.Collectors[j]
			c.Error = fmt.Sprintf("token: AADSTS7000222: The keys for app %d are expired", i)
			c.Failure = collector.Failure{Cause: "AADSTS7000222: The keys for app … are expired", Remedy: "create a new secret", Runbook: "MDESignInRefused"}
			c.FailingSince = now.Add(-time.Duration(i) * time.Second)
		}
		t.Collectors[0].Page.Measures = []collector.Measure{
			{Title: "Require attention", Text: fmt.Sprintf("%d.0%%", i%100), Number: float64(i%100) / 100}, {Title: "Most frequent problem"},
		}
		var domains []Domain
		for d := range 50 {
			domains = append(domains, Domain{Name: fmt.Sprintf("d%05d.example", i*50+d), LastSuccess: now.Add(-time.Hour)})
		}
		if i >= 197 {
			domains = append(domains, Domain{Name: "evil.example", Machines: i, LastSuccess: now.Add(-time.Hour)})
		}
		t.setDomains(domains...)
	}
	return s
}

func TestEqualCausesAreMerged(t *testing.T) {
	now := time.Now()
	since := now.Add(-199 * time.Second)
	page := showPage(t, failingTenants(now), "/")
	text := pageText(t, page)
	if n := strings.Count(text, "AADSTS7000222"); n != 1 {
		t.Errorf("the error is shown %d times, want once", n)
	}
	for _, want := range []string{
		"One cause of failures 200 tenants: AADSTS7000222: The keys for app … are expired",
		"Fix: create a new secret", "security_states , watched_domains , since " + since.UTC().Format("2006-01-02 15:04 UTC") + " ( 3m 19s ago )", "Runbook MDESignInRefused", "200 tenants by name",
		"Watched domains contacted: 1 evil.example Machines: 594 · Runbook MDEWatchedDomainContacted 3 tenants by name",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%.3000s", want, text)
		}
	}
}

func TestTenantTableSearchSortAndPages(t *testing.T) {
	s := failingTenants(time.Now())
	s.Tenants[7].Collectors[0].Page.Measures[0].Text = "" // Unknown instead of 7%.
	names := func(target string) (rows []string) {
		t.Helper()
		for node := range parse(t, showPage(t, s, target)).Descendants() {
			if node.Data == "th" && attribute(node, "scope") == "row" {
				rows = append(rows, strings.TrimSpace(nodeText(node)))
			}
		}
		return rows
	}
	for target, want := range map[string][]string{
		"/?sort=tenant":                        {"tenant-000", "tenant-001"},
		"/?sort=require-attention":             {"tenant-099", "tenant-199", "tenant-098"},
		"/?sort=domains-contacted":             {"tenant-197", "tenant-198", "tenant-199", "tenant-000"},
		"/?sort=tenant&page=4":                 {"tenant-075"},
		"/?q=TENANT-19&sort=tenant":            {"tenant-190", "tenant-191"},
		"/?q=d09999":                           nil,
		"/?q=" + strings.Repeat("%C3%A9", 300): nil,
	} {
		if got := names(target); !slices.Equal(got[:min(len(want), len(got))], want) {
			t.Errorf("%s shows %.5q, want %q first", target, got, want)
		}
	}
	if rows := names("/?sort=require-attention&page=8"); rows[len(rows)-1] != "tenant-007" {
		t.Errorf("the last tenant is %s, want the one with the unknown value", rows[len(rows)-1])
	}
	if text := pageText(t, showPage(t, s, "/?q=d09999")); !strings.Contains(text, "d09999.example Machines: 0 tenant-199") {
		t.Errorf("the search does not find the domain:\n%.2000s", text)
	}
	if rows := names("/?tenant=tenant-199&sort=domain"); !slices.IsSorted(rows) || len(rows) != 51 {
		t.Errorf("sorted by name the rows are %q", rows)
	}
	if rows := names("/?tenant=tenant-199&q=EVIL"); !slices.Equal(rows, []string{"evil.example"}) {
		t.Errorf("the search finds %q", rows)
	}
	o := testOptions()
	o.Status = func() Status { return s }
	h := newTestHandler(t, o)
	for _, target := range []string{"/?sort=nothing", "/?page=9", "/?q=tenant-19&page=2", "/?tenant=tenant-001&sort=age"} {
		if response := request(t, h, http.MethodGet, target); response.Code != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", target, response.Code)
		}
	}
}

// TestPageSizeIsBounded gives every tenant another cause of failure and contacted
// domains of its own.
func TestPageSizeIsBounded(t *testing.T) {
	now := time.Now()
	s := failingTenants(now)
	for i := range s.Tenants {
		for j := range s.Tenants[i].Collectors {
			c := &s.Tenants[i].Collectors[j]
			c.Failure.Cause = "cause " + s.Tenants[i].Name
			c.Page.Notes = []string{"limit " + s.Tenants[i].Name}
		}
		rows := s.Tenants[i].Collectors[1].Page.Table.Rows
		for j := range rows {
			rows[j].Marked, rows[j].Number = true, 1
		}
	}
	for _, target := range []string{"/", "/?q=example", "/?q=tenant"} {
		if page := showPage(t, s, target); len(page) > 256<<10 {
			t.Errorf("%s has %d bytes", target, len(page))
		}
	}
}

func TestCommonRowErrorIsShownOnce(t *testing.T) {
	tenant := healthyTenant("contoso", time.Now())
	var domains []Domain
	for i := range 150 {
		name := fmt.Sprintf("d%03d.example", i)
		domains = append(domains, Domain{Name: name, Error: "list machines of " + name + ": HTTP 500"})
	}
	domains = append(domains, Domain{Name: "other.example", Error: "list machines of other.example: HTTP 404"})
	tenant.setDomains(domains...)
	text := pageText(t, showPage(t, Status{Tenants: []Tenant{tenant}}, "/?tenant=contoso"))
	for want, times := range map[string]int{
		"Failure 1, 150 of the domains below: list machines of …: HTTP 500": 1, "HTTP 500": 1, "failure 1": 150,
		"other.example list machines of other.example: HTTP 404": 1,
	} {
		if n := strings.Count(text, want); n != times {
			t.Errorf("%q is shown %d times, want %d", want, n, times)
		}
	}
}

func TestStaleValueIsACause(t *testing.T) {
	now := time.Now()
	s := Status{Tenants: tenants(maxFullTenants+1, now)}
	s.Tenants[2].Collectors[0].LastSuccess = now.Add(-time.Hour)
	if text := pageText(t, showPage(t, s, "/")); !strings.Contains(text, "One cause of failures 1 tenant: values older than max_age withdrawn, no refresh finished since") {
		t.Errorf("the page shows no cause:\n%.2000s", text)
	}
}

// rowText returns the text of a row in the table of tenants.
func rowText(t *testing.T, page, tenant string) string {
	t.Helper()
	for node := range parse(t, page).Descendants() {
		if node.Data != "tr" {
			continue
		}
		if text := strings.Join(strings.Fields(nodeText(node)), " "); strings.HasPrefix(text, tenant+" ") {
			return text
		}
	}
	t.Fatalf("no row of %s", tenant)
	return ""
}

// TestTenantRowIsShort shows collectors that package web does not know.
func TestTenantRowIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		more := func(name, failure string) Collector {
			c := healthyTenant("", now).Collectors[0]
			c.Name, c.Error = name, failure
			c.Page.Measures = []collector.Measure{{Title: "Unresolved alerts", Text: "1,234", Number: 1234}}
			return c
		}
		s := Status{Tenants: tenants(maxFullTenants+1, now)}
		s.Tenants[0].Collectors = append(s.Tenants[0].Collectors, more("scores", "HTTP 403"), more("alerts", "HTTP 403"))
		s.Tenants[1].Collectors[0].LastSuccess = time.Time{}
		s.Tenants[1].Collectors[0].Ready = false
		s.Tenants[2].Collectors[0] = Collector{Name: "security_states"}
		s.Tenants[2].Collectors[1] = Collector{Name: "watched_domains", Enabled: true}
		page := showPage(t, s, "/")
		for tenant, want := range map[string]string{
			"tenant-000": "failing scores , alerts healthy security_states , watched_domains 7m 0s ago 2 of 4, 1 unknown 1,234",
			"tenant-001": "waiting security_states healthy watched_domains 20s ago , some never 2 of 4, 1 unknown –",
			"tenant-002": "waiting watched_domains never – –",
		} {
			if got := rowText(t, page, tenant); got != tenant+" "+want {
				t.Errorf("the row is %q, want %q", got, tenant+" "+want)
			}
		}
	})
}

// TestCollectorCardSummarizesRowErrors has a collector whose error lists errors
// of its first rows.
func TestCollectorCardSummarizesRowErrors(t *testing.T) {
	tenant := healthyTenant("contoso", time.Now())
	var domains []Domain
	for i := range 1500 {
		domains = append(domains, Domain{Name: fmt.Sprintf("d%04d.example", i)})
		if i < 1200 {
			domains[i].Error = "list machines of " + domains[i].Name + ": HTTP 500"
		}
	}
	tenant.setDomains(domains...)
	c := &tenant.Collectors[1]
	c.Error = "1200 of 1500 domains: list machines of d0000.example: HTTP 500; try again; d0001.example: HTTP 500; try again; d0002.example: HTTP 500; try again"
	c.Failure = collector.Failure{Cause: "HTTP 500", Remedy: "try again", Runbook: "MDERefreshFailing"}
	text := pageText(t, showPage(t, Status{Tenants: []Tenant{tenant}}, "/?tenant=contoso"))
	if !strings.Contains(text, "1,200 of 1,500 domains: HTTP 500 Fix: try again Runbook MDERefreshFailing") {
		t.Errorf("the card does not show the number of failed rows:\n%.2000s", text)
	}
	if n := strings.Count(text, "HTTP 500"); n != 2 { // On the card and above the table.
		t.Errorf("the error is shown %d times, want 2:\n%.2000s", n, text)
	}
}

// TestContactedDomainsAreHighlighted compares the CSS classes of collector cards.
func TestContactedDomainsAreHighlighted(t *testing.T) {
	s := Status{Tenants: tenants(1, time.Now())}
	s.Tenants[0].Collectors[0].Error = "HTTP 403"
	var classes []string
	for node := range parse(t, showPage(t, s, "/")).Descendants() {
		if class := attribute(node, "class"); strings.HasPrefix(class, "collector ") {
			classes = append(classes, class)
		}
	}
	if !slices.Equal(classes, []string{"collector bad", "collector alarm"}) {
		t.Errorf("classes %q", classes)
	}
}

func TestUnusualQueries(t *testing.T) {
	long := strings.Repeat("x", 60<<10)
	for _, n := range []int{1, maxFullTenants + 1} {
		o := testOptions()
		s := Status{Tenants: tenants(n, time.Now())}
		o.Status = func() Status { return s }
		h := newTestHandler(t, o)
		for target, want := range map[string]int{
			"/?q=%00&page=1":                     http.StatusOK,
			"/?q=%3Cscript%3Ealert(1)%3C/script": http.StatusOK,
			"/?q=" + long:                        http.StatusOK,
			"/?q=%ff%fe":                         http.StatusOK,
			"/?q=" + strings.Repeat("%20", 300):  http.StatusOK,
			"/?q=a&q=b&sort=tenant&sort=x":       http.StatusOK,
			"/?tenant=tenant-000&q=%00":          http.StatusOK,
			"/?q=a;b":                            http.StatusBadRequest,
			"/?tenant=tenant-000&q=%zz":          http.StatusBadRequest,
			"/?sort=%00":                         http.StatusNotFound,
			"/?sort=" + long:                     http.StatusNotFound,
			"/?tenant=":                          http.StatusNotFound,
			"/?tenant=%3Cscript%3E":              http.StatusNotFound,
			"/?tenant=tenant-000%00":             http.StatusNotFound,
			"/?page=2":                           http.StatusNotFound,
			"/?page=-1":                          http.StatusNotFound,
			"/?page=1e9":                         http.StatusNotFound,
			"/?page=99999999999999999999":        http.StatusNotFound,
			"/?page=%31%00":                      http.StatusNotFound,
			"/?tenant=tenant-000&sort=age":       http.StatusNotFound,
			"/?tenant=tenant-000&page=2":         http.StatusNotFound,
		} {
			response := request(t, h, http.MethodGet, target)
			if response.Code != want {
				t.Errorf("with %d tenants %.40s: status %d, want %d", n, target, response.Code, want)
			}
			if body := response.Body.String(); strings.Contains(body, "<script") || strings.ContainsAny(body, "\x00") || len(body) > 64<<10 {
				t.Errorf("with %d tenants %.40s: %d bytes: %.200s", n, target, len(body), body)
			}
		}
	}
}

// TestRunbookLinksMatchAlerts compares the runbook links of page, alerts and
// docs.
func TestRunbookLinksMatchAlerts(t *testing.T) {
	rules, err := fs.ReadFile(alerts.Files, "mde.yaml")
	if err != nil {
		t.Fatal(err)
	}
	runbooks, err := os.ReadFile("../../docs/runbooks.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, alert := range []string{staleFailure.Runbook, "MDERefreshFailing", "MDEWatchedDomainContacted"} {
		if !strings.Contains(string(rules), "runbook_url: "+runbookLink(alert)+"\n") {
			t.Errorf("no alert links to %s", runbookLink(alert))
		}
		if !strings.Contains(string(runbooks), "\n### "+alert+"\n") {
			t.Errorf("no runbook of %s", alert)
		}
	}
}

// A cause starts with the earliest known failure.
func TestCauseStartsWithFirstFailure(t *testing.T) {
	failure := collector.Failure{Cause: "HTTP 503"}
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	var causes list[*cause]
	for _, since := range []time.Time{noon, {}, noon.Add(-time.Minute), noon.Add(time.Minute)} {
		addCause(&causes, "contoso", "scores", failure, since)
	}
	if len(causes) != 1 || !causes[0].Since.Equal(noon.Add(-time.Minute)) {
		t.Errorf("%d causes, the first since %s", len(causes), causes[0].Since)
	}
}
