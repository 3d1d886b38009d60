// Package mixedfleet serves 40 simulated tenants: 33 healthy ones of different
// sizes and with both sources of security states, 5 broken in different ways and
// 2 throttled. It is the test setup for dashboards, alerts and everything else
// that must stay readable when some tenants fail.
//
//	make mixed-fleet
package mixedfleet

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// Tenant is one of the served tenants.
type Tenant struct {
	*simulation.Tenant
	// Name is the value of the tenant label.
	Name string
	// Healthy is true for a tenant whose refreshes succeed.
	Healthy bool
	// Server serves the tenant.
	Server *simulation.Server

	settings string // more lines of the tenant's section
}

// Fleet contains the served tenants.
type Fleet []Tenant

// Start serves each tenant on its own addresses until Close.
func Start(o simulation.ListenOptions) (Fleet, error) {
	fleet := append(healthy(), failing()...)
	for i := range fleet {
		server, err := fleet[i].Listen(o)
		if err != nil {
			fleet[:i].Close()
			return nil, fmt.Errorf("serve %s: %w", fleet[i].Name, err)
		}
		fleet[i].Server = server
	}
	return fleet, nil
}

// Close stops serving.
func (f Fleet) Close() {
	for _, t := range f {
		t.Server.Close()
	}
}

// Configuration returns the exporter's configuration file for the tenants.
// Intervals are short: failures and withdrawn values show within minutes.
func (f Fleet) Configuration() string {
	var file strings.Builder
	file.WriteString(`# The mixed fleet: 40 simulated tenants, 7 of which fail.
global:
  request_timeout: 10s
  security_states: {refresh_interval: 1m}
  watched_domains: {refresh_interval: 2m, statistics: true, domains: [` + strings.Join(simulation.DemoDomains(), ", ") + `]}
tenants:
`)
	for _, t := range f {
		fmt.Fprintf(&file, `- name: %s
  azuread: {oauth: {tenant_id: %s, client_id: %s, client_secret: %s}}
  endpoints: {login_url: %q, graph_url: %q, api_url: %q}
%s`, t.Name, t.TenantID(), t.ClientID(), t.ClientSecret(), t.Server.LoginURL, t.Server.GraphURL, t.Server.APIURL, t.settings)
	}
	return file.String()
}

// names are the names of the healthy tenants.
var names = []string{
	"adatum", "adventure-works", "alpine-ski-house", "bellows-college", "best-for-you-organics", "consolidated-messenger",
	"contoso", "contoso-pharmaceuticals", "contoso-suites", "fabrikam", "fabrikam-residences", "first-up-consultants",
	"fourth-coffee", "graphic-design-institute", "humongous-insurance", "lamna-healthcare",
	"liberty-delightful-sinful-bakery-and-cafe", "litware", "lucerne-publishing", "margies-travel", "munsons-pickles",
	"nod-publishers", "northwind-traders", "proseware", "relecloud", "school-of-fine-art", "southridge-video",
	"tailspin-toys", "tailwind-traders", "the-phone-company", "trey-research", "van-arsdel", "wide-world-importers",
}

// healthy returns the tenants whose refreshes succeed. Sizes grow from 15 to
// about 1,300 machines. Every third tenant has no Graph preview. contoso is the
// demo's tenant with its story. relecloud watches a list that needs more than an
// hour of its quota.
func healthy() Fleet {
	var fleet Fleet
	for i, name := range names {
		o := simulation.Options{
			Machines: int(15 * math.Pow(1.15, float64(i))),
			Seed:     uint64(i),
			Domains:  contacts(i),
		}
		if name == "contoso" {
			o = simulation.Demo()
		}
		if i%3 == 0 {
			o.PreviewStatus = http.StatusNotFound
		}
		t := newTenant(i, name, o)
		t.Healthy = true
		if name == "relecloud" {
			t.settings = "  watched_domains: {domains: [" + longList(2000) + "]}\n"
		}
		fleet = append(fleet, t)
	}
	return fleet
}

// failing returns the five broken and the two throttled tenants. Five never
// succeed. Server errors and throttled API calls begin after the first responses,
// so these tenants have values that become stale.
func failing() Fleet {
	api := func(r *http.Request) bool { return !strings.Contains(r.URL.Path, "/oauth2/") }
	var fleet Fleet
	for i, t := range []struct {
		name  string
		roles []string
		fault simulation.Fault
		api   simulation.API
	}{
		{name: "broken-wrong-secret"},
		{name: "broken-forbidden", roles: []string{}},
		{name: "broken-server-errors", api: simulation.Every, fault: simulation.Fault{Status: http.StatusInternalServerError, Match: api, Skip: 24}},
		{name: "broken-hanging", api: simulation.Every, fault: simulation.Fault{Hang: true, Match: api}},
		{name: "broken-invalid-response", api: simulation.Every, fault: simulation.Fault{Body: simulation.SignInPage, Match: api}},
		{name: "throttled-sign-in", api: simulation.Token, fault: simulation.Fault{Status: http.StatusTooManyRequests, RetryAfter: "600"}},
		{name: "throttled-api", api: simulation.Every, fault: simulation.Fault{Status: http.StatusTooManyRequests, RetryAfter: "90", Match: api, Skip: 24}},
	} {
		i += len(names)
		tenant := newTenant(i, t.name, simulation.Options{
			Machines: 400, Seed: uint64(i), Domains: contacts(i), Roles: t.roles,
			PreviewStatus: http.StatusNotFound,
		})
		if t.api != "" {
			tenant.Fail(t.api, t.fault)
		} else if t.roles == nil {
			tenant.SetSecrets("another")
		}
		fleet = append(fleet, tenant)
	}
	return fleet
}

// newTenant returns tenant number i, with an Entra tenant id of its own.
func newTenant(i int, name string, o simulation.Options) Tenant {
	o.TenantID = fmt.Sprintf("00000000-0000-4000-8000-%012d", i+1)
	o.CallLog = 1000
	return Tenant{Tenant: simulation.New(o), Name: name}
}

// contacts returns a tenant's contacted domains: none for every other tenant.
func contacts(i int) map[string]simulation.Domain {
	if i%2 == 0 {
		return nil
	}
	domains := map[string]simulation.Domain{}
	for j, name := range simulation.DemoDomains() {
		if (i+j)%5 == 0 {
			domains[name] = simulation.Domain{Machines: 1 + i*j, FirstSeen: time.Duration(i) * time.Hour}
		}
	}
	return domains
}

// longList returns a list of n domains without contacts.
func longList(n int) string {
	domains := make([]string, n)
	for i := range domains {
		domains[i] = fmt.Sprintf("c2-%04d.example", i)
	}
	return strings.Join(domains, ", ")
}
