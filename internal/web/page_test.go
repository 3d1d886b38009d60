package web

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/html"

	"github.com/mde-exporter/mde_exporter/collector"
)

// Domain is a row of the table of watched domains, which most tests show.
type Domain struct {
	Name                          string
	Machines                      int
	Truncated, Withdrawn, Invalid bool
	LastSuccess                   time.Time
	Error                         string
}

// watchedPage returns a page with the table of the domains.
func watchedPage(domains ...Domain) collector.Page {
	rows := make([]collector.Row, len(domains))
	for i, d := range domains {
		rows[i] = collector.Row{Name: d.Name, At: d.LastSuccess, Error: d.Error}
		switch r := &rows[i]; {
		case d.Invalid:
			r.Instead = "invalid name"
		case d.Withdrawn:
			r.Instead = "withdrawn"
		case !d.LastSuccess.IsZero():
			r.Known, r.Number, r.AtLeast, r.Marked = true, float64(d.Machines), d.Truncated, d.Machines > 0
		}
	}
	return collector.Page{Table: collector.Table{
		Title: "Watched domains", Items: "domains", Marked: "contacted", Runbook: "MDEWatchedDomainContacted", AtLeast: "by 500 machines or more",
		Columns: [3]string{"Domain", "Machines", "Counted"}, Rows: rows,
	}}
}

// setDomains replaces the rows of the tenant's table of watched domains.
func (t *Tenant) setDomains(domains ...Domain) {
	t.Collectors[1].Page.Table = watchedPage(domains...).Table
}

// healthyTenant returns a tenant without failures.
func healthyTenant(name string, now time.Time) Tenant {
	t := Tenant{
		Name: name,
		Collectors: []Collector{
			{
				Name: "security_states", Enabled: true, Status: collector.Status{
					Ready:    true,
					Page:     collector.Page{Source: "machines", Summary: "4,213 machines, 97 require attention", MaxAge: 45 * time.Minute},
					Finished: now.Add(-7 * time.Minute), LastSuccess: now.Add(-7 * time.Minute),
					Duration: 4100 * time.Millisecond, Next: now.Add(8 * time.Minute),
				},
			},
			{
				Name: "watched_domains", Enabled: true, Status: collector.Status{
					Ready:    true,
					Page:     collector.Page{MaxAge: 3 * time.Hour},
					Finished: now.Add(-20 * time.Second), LastSuccess: now.Add(-20 * time.Second),
					Duration: 700 * time.Millisecond, Next: now.Add(59 * time.Minute),
				},
			},
		},
	}
	t.setDomains(
		Domain{Name: "quiet.example", LastSuccess: now.Add(-20 * time.Second)},
		Domain{Name: "evil.example", Machines: 12, LastSuccess: now.Add(-20 * time.Second)},
		Domain{Name: "worse.example", Machines: 500, Truncated: true, LastSuccess: now.Add(-20 * time.Second)},
		Domain{Name: "broken.example", Error: "domain_machines: HTTP 500", LastSuccess: now.Add(-2 * time.Hour)},
		Domain{Name: "new.example"},
	)
	return t
}

func tenants(n int, now time.Time) (all []Tenant) {
	for i := range n {
		all = append(all, healthyTenant(fmt.Sprintf("tenant-%03d", i), now))
	}
	return all
}

// showPage returns the HTML of a page.
func showPage(t *testing.T, s Status, target string) string {
	t.Helper()
	o := testOptions()
	o.Status = func() Status { return s }
	response := request(t, newTestHandler(t, o), http.MethodGet, target)
	if response.Code != http.StatusOK {
		t.Fatalf("%s: status %d: %s", target, response.Code, response.Body)
	}
	return response.Body.String()
}

// pageText returns the visible text of a page in one line.
func pageText(t *testing.T, page string) string {
	t.Helper()
	var text []string
	for node := range parse(t, page).Descendants() {
		if node.Type == html.TextNode && node.Parent.Data != "style" && node.Parent.Data != "title" {
			text = append(text, node.Data)
		}
	}
	return strings.Join(strings.Fields(strings.Join(text, " ")), " ")
}

func parse(t *testing.T, page string) *html.Node {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// hrefs returns the targets of all links of a page.
func hrefs(t *testing.T, page string) (targets []string) {
	t.Helper()
	for node := range parse(t, page).Descendants() {
		for _, attribute := range node.Attr {
			if attribute.Key == "href" {
				targets = append(targets, attribute.Val)
			}
		}
	}
	return targets
}

func TestStatusPage(t *testing.T) {
	forbidden := "machines: HTTP 403: Forbidden: role Machine.Read.All is missing"
	tests := []struct {
		name   string
		change func(s *Status, now time.Time)
		want   []string
	}{
		{
			name:   "all healthy",
			change: func(*Status, time.Time) {},
			want: []string{
				"for Prometheus · 1.2.3", "1 tenant", "2 of 2 collectors healthy", "2 of 4 watched domains contacted 1 of 5 unknown 1 by 500 machines or more",
				"security_states healthy 4,213 machines, 97 require attention Values from 7m 0s ago Last refresh 7m 0s ago , took 4s Next refresh in 8m 0s Source machines",
				"watched_domains healthy Values from 20s ago Last refresh 20s ago , took under a second",
				"worse.example 500 or more 20s ago evil.example 12 20s ago broken.example domain_machines: HTTP 500 0 2h 0m ago new.example unknown never quiet.example 0 20s ago",
				"Configuration mde.yml loaded 1d 1h ago", "fleet.json", "mde.yaml", "As of 2000-01-01 00:00:00 UTC",
			},
		},
		{
			name: "a failure with older values",
			change: func(s *Status, _ time.Time) {
				s.Tenants[0].Collectors[0].Error = forbidden
			},
			want: []string{"1 tenant 1 failing", "1 of 2 collectors healthy 1 failing", "security_states failing 4,213 machines, 97 require attention " + forbidden},
		},
		{
			name: "withdrawn values",
			change: func(s *Status, now time.Time) {
				s.Tenants[0].Collectors[0].Error = forbidden
				s.Tenants[0].Collectors[0].LastSuccess = now.Add(-46 * time.Minute)
			},
			want: []string{"security_states no values", "Values from 46m 0s ago"},
		},
		{
			name: "a failed first refresh",
			change: func(s *Status, _ time.Time) {
				s.Tenants[0].Collectors[0].Error = forbidden
				s.Tenants[0].Collectors[0].LastSuccess = time.Time{}
			},
			want: []string{"security_states no values", "Values from never"},
		},
		{
			name: "the first refresh",
			change: func(s *Status, _ time.Time) {
				s.Tenants[0].Collectors[0] = Collector{Name: "security_states", Enabled: true}
			},
			want: []string{"1 of 2 collectors healthy 1 at their first refresh", "security_states waiting Values from never Last refresh first refresh running"},
		},
		{
			name: "values from before a restart during the first refresh",
			change: func(s *Status, now time.Time) {
				s.Tenants[0].Collectors[0] = Collector{Name: "security_states", Enabled: true, Status: collector.Status{LastSuccess: now.Add(-time.Hour)}}
			},
			want: []string{"security_states waiting Values from 1h 0m ago Last refresh first refresh running"},
		},
		{
			name: "a disabled collector",
			change: func(s *Status, _ time.Time) {
				s.Tenants[0].Collectors[1] = Collector{Name: "watched_domains", Status: collector.Status{Page: watchedPage()}}
			},
			want: []string{"1 of 1 collectors healthy", "0 of 0 watched domains contacted", "watched_domains off Grafana dashboards"},
		},
		{
			name: "a watch list without values",
			change: func(s *Status, _ time.Time) {
				s.Tenants[0].setDomains(Domain{Name: "a.example"}, Domain{Name: "b.example", Error: "domain_machines: HTTP 500"})
			},
			want: []string{
				"Unknown which watched domains were contacted 2 of 2 unknown", "Watched domains: 2, contacted: unknown",
				"b.example domain_machines: HTTP 500 unknown never a.example unknown never",
			},
		},
		{
			name: "withdrawn and invalid domains",
			change: func(s *Status, now time.Time) {
				s.Tenants[0].setDomains(
					Domain{Name: "old.example", Machines: 7, Withdrawn: true, LastSuccess: now.Add(-4 * time.Hour)},
					Domain{Name: "odd_name.example", Invalid: true},
				)
			},
			want: []string{
				"Unknown which watched domains were contacted 2 of 2 unknown",
				"old.example withdrawn 4h 0m ago", "odd_name.example invalid name never",
			},
		},
		{
			name: "a missing role",
			change: func(s *Status, _ time.Time) {
				s.Tenants[0].Collectors[1].Page.Notes = []string{"Prevalence is left out: role URL.Read.All is missing."}
			},
			want: []string{"Prevalence is left out: role URL.Read.All is missing."},
		},
		{
			name: "a failed reload",
			change: func(s *Status, _ time.Time) {
				s.Config.Error = "mde.yml:3: unknown key \"tenant\""
			},
			want: []string{"Reload failed mde.yml", "The last reload failed mde.yml:3: unknown key \"tenant\""},
		},
		{
			name: "no tenants, as on an empty shard",
			change: func(s *Status, _ time.Time) {
				s.Tenants = nil
			},
			want: []string{"0 tenants", "0 of 0 collectors healthy"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				now := time.Now()
				s := Status{
					Version: "1.2.3",
					Config:  ConfigStatus{Source: "mde.yml", LoadedAt: now.Add(-25*time.Hour - time.Minute)},
					Tenants: tenants(1, now),
				}
				test.change(&s, now)
				text := pageText(t, showPage(t, s, "/"))
				for _, want := range test.want {
					if !strings.Contains(text, want) {
						t.Errorf("the page lacks %q:\n%s", want, text)
					}
				}
			})
		})
	}
}

func TestManyTenantsAreListedFailingFirst(t *testing.T) {
	now := time.Now()
	s := Status{Tenants: tenants(300, now)}
	s.Tenants[123].Collectors[0].Error = "token: HTTP 401: invalid_client"
	s.Tenants[222].Collectors[0].Error = "token: HTTP 401: invalid_client"
	s.Tenants[222].Collectors[0].LastSuccess = time.Time{}
	page := showPage(t, s, "/")
	text := pageText(t, page)
	if !strings.Contains(text, "300 tenants 2 failing 598 of 600 collectors healthy 2 failing") {
		t.Errorf("the totals differ:\n%.400s", text)
	}
	var order []string
	for target := "/"; target != ""; {
		page := showPage(t, s, target)
		target = ""
		for node := range parse(t, page).Descendants() {
			switch {
			case node.Data == "th" && attribute(node, "scope") == "row":
				order = append(order, strings.TrimSpace(nodeText(node)))
			case attribute(node, "rel") == "next":
				target = "/" + attribute(node, "href")
			}
		}
	}
	if len(order) != 300 || order[0] != "tenant-222" || order[1] != "tenant-123" || order[2] != "tenant-000" || order[299] != "tenant-299" {
		t.Errorf("%d tenants, in the order %.5q", len(order), order)
	}
	if len(page) > 512<<10 {
		t.Errorf("the page has %d bytes", len(page))
	}
}

func TestLongDomainListIsPaged(t *testing.T) {
	tenant := healthyTenant("contoso", time.Now())
	var domains []Domain
	for i := range 450 {
		domains = append(domains, Domain{Name: fmt.Sprintf("d%03d.example", i), LastSuccess: time.Now()})
	}
	domains[449].Machines = 3
	tenant.setDomains(domains...)
	s := Status{Tenants: []Tenant{tenant}}

	front := pageText(t, showPage(t, s, "/"))
	if !strings.Contains(front, "d449.example 3") || !strings.Contains(front, "All 450 domains of contoso") || strings.Contains(front, "d014.example") {
		t.Errorf("the page does not show the first 15 domains:\n%s", front)
	}

	seen := map[string]int{}
	target, pages := "?tenant=contoso", 0
	for target != "" {
		pages++
		page := showPage(t, s, "/"+target)
		for _, name := range regexp.MustCompile(`d\d{3}\.example`).FindAllString(pageText(t, page), -1) {
			seen[name]++
		}
		target = ""
		for node := range parse(t, page).Descendants() {
			attributes := map[string]string{}
			for _, a := range node.Attr {
				attributes[a.Key] = a.Val
			}
			if attributes["rel"] == "next" {
				target = attributes["href"]
			}
		}
	}
	if pages != 3 || len(seen) != 450 {
		t.Errorf("%d pages with %d domains, want 3 with 450", pages, len(seen))
	}
	for name, times := range seen {
		if times != 1 {
			t.Errorf("%s is shown %d times", name, times)
		}
	}

	o := testOptions()
	o.Status = func() Status { return s }
	h := newTestHandler(t, o)
	for _, number := range []string{"0", "4", "-1", "x", "99999999999999999999"} {
		if response := request(t, h, http.MethodGet, "/?tenant=contoso&page="+number); response.Code != http.StatusNotFound {
			t.Errorf("page %s: status %d, want 404", number, response.Code)
		}
	}
}

func TestUntrustedTextIsEscaped(t *testing.T) {
	hostile := `"><script>alert(1)</script><img src=x onerror='alert(2)'>&` + "\x00\xff\u202e"
	tenant := healthyTenant(hostile, time.Now())
	for i := range tenant.Collectors {
		c := &tenant.Collectors[i]
		c.Name, c.Page.Source, c.Page.Summary, c.Error, c.Page.Notes = hostile, hostile, hostile, hostile, []string{hostile}
	}
	for i := range tenant.Collectors {
		t := &tenant.Collectors[i].Page.Table
		t.Title, t.Items, t.Marked, t.AtLeast, t.Columns = hostile, hostile, hostile, hostile, [3]string{hostile, hostile, hostile}
		for i := range t.Rows {
			r := &t.Rows[i]
			r.Name, r.Group, r.Error, r.Instead, r.Hint = hostile, hostile, hostile, hostile, hostile
		}
	}
	for _, n := range []int{1, maxFullTenants + 1} {
		s := Status{Version: hostile, Config: ConfigStatus{Source: hostile, Error: hostile}}
		for range n {
			s.Tenants = append(s.Tenants, tenant)
		}
		page := showPage(t, s, "/")
		for node := range parse(t, page).Descendants() {
			if node.Data == "script" || node.Data == "img" {
				t.Errorf("with %d tenants the page has a <%s>", n, node.Data)
			}
			for _, a := range node.Attr {
				if strings.HasPrefix(a.Key, "on") || a.Key == "style" {
					t.Errorf("with %d tenants the page has an attribute %s=%q", n, a.Key, a.Val)
				}
			}
		}
		// The link of this tenant must work, too.
		for _, target := range hrefs(t, page) {
			if strings.HasPrefix(target, "?tenant=") {
				showPage(t, s, "/"+target)
			}
		}
	}
}

func TestAllLinksWork(t *testing.T) {
	o := testOptions()
	o.TelemetryPath = "/telemetry/mde"
	o.Pprof = true
	s := Status{Tenants: tenants(2, time.Now())}
	o.Status = func() Status { return s }
	h := newTestHandler(t, o)
	page := request(t, h, http.MethodGet, "/").Body.String()
	links := hrefs(t, page)
	for _, want := range []string{"telemetry/mde", "config", "-/ready", "debug/pprof/", "dashboards/fleet.json", "alerts/mde.yaml", "?tenant=tenant-001"} {
		found := false
		for _, link := range links {
			found = found || link == want
		}
		if !found {
			t.Errorf("no link to %s among %q", want, links)
		}
	}
	for _, link := range links {
		if strings.HasPrefix(link, "https://") {
			continue
		}
		// A link with a leading slash would lose a proxy's path prefix.
		if strings.HasPrefix(link, "/") {
			t.Errorf("%s is not relative", link)
		}
		if response := request(t, h, http.MethodGet, "/"+link); response.Code != http.StatusOK {
			t.Errorf("%s: status %d", link, response.Code)
		}
	}
}

// The policy allows the page's style by its hash. If they differ, browsers ignore
// the style.
func TestContentSecurityPolicyAllowsPageStyle(t *testing.T) {
	response := request(t, newTestHandler(t, testOptions()), http.MethodGet, "/")
	page := response.Body.String()
	for node := range parse(t, page).Descendants() {
		if node.Data != "style" || node.FirstChild == nil {
			continue
		}
		sum := sha256.Sum256([]byte(node.FirstChild.Data))
		want := "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
		if policy := response.Header().Get("Content-Security-Policy"); !strings.Contains(policy, want) {
			t.Errorf("the policy %q lacks %q", policy, want)
		}
		return
	}
	t.Error("the page has no style")
}

func TestFormatNumbersAndDurations(t *testing.T) {
	for n, want := range map[int]string{0: "0", 7: "7", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234", -123: "-123"} {
		if got := collector.Number(n); got != want {
			t.Errorf("Number(%d) is %q, want %q", n, got, want)
		}
	}
	for n, want := range map[float64]string{0: "0", 0.5: "0.5", 33.491554: "33.49", 1234.5: "1,234.5", -1234.567: "-1,234.57", 2e6: "2,000,000"} {
		if got := collector.Number(n); got != want {
			t.Errorf("Number(%g) is %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0:                                     "under a second",
		59*time.Second + 900*time.Millisecond: "59s",
		time.Minute:                           "1m 0s",
		59*time.Minute + 59*time.Second:       "59m 59s",
		26 * time.Hour:                        "1d 2h",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%s) is %q, want %q", d, got, want)
		}
	}
}

// TestUnknownDomainsAreNotGreen checks the classes of the totals. Totals are
// green unless they have a class.
func TestUnknownDomainsAreNotGreen(t *testing.T) {
	now := time.Now()
	tests := []struct {
		name    string
		domains []Domain
		class   string
	}{
		{"all known, none contacted", []Domain{{Name: "a.example", LastSuccess: now}}, ""},
		{"one contacted, one unknown", []Domain{{Name: "a.example", Machines: 1, LastSuccess: now}, {Name: "b.example"}}, "alarm"},
		{"one known, one unknown", []Domain{{Name: "a.example", LastSuccess: now}, {Name: "b.example"}}, "neutral"},
		{"none known", []Domain{{Name: "a.example"}}, "neutral"},
		{"withdrawn", []Domain{{Name: "a.example", Machines: 3, Withdrawn: true, LastSuccess: now.Add(-9 * time.Hour)}}, "neutral"},
		{"no list", nil, "neutral"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := Status{Tenants: []Tenant{healthyTenant("contoso", now)}}
			s.Tenants[0].setDomains(test.domains...)
			for node := range parse(t, showPage(t, s, "/")).Descendants() {
				if node.Data != "li" || !strings.Contains(nodeText(node), "watched domains") {
					continue
				}
				class := ""
				for _, attribute := range node.Attr {
					class = attribute.Val
				}
				if class != test.class {
					t.Errorf("class %q, want %q", class, test.class)
				}
				return
			}
			t.Error("the page has no total of watched domains")
		})
	}
}

func attribute(node *html.Node, key string) string {
	for _, a := range node.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func nodeText(node *html.Node) string {
	var text strings.Builder
	for n := range node.Descendants() {
		if n.Type == html.TextNode {
			text.WriteString(n.Data + " ")
		}
	}
	return text.String()
}
