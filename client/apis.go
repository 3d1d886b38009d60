// Package client speaks to the Microsoft Defender for Endpoint APIs of one
// tenant: it gets tokens, paces and retries calls, reads answers page by page
// and yields their entities one at a time. It knows HTTP and JSON, and nothing
// of Prometheus.
package client

import (
	"net/url"
	"strings"
)

// API names one kind of call. Its value is what the api label of the
// exporter's metrics shows.
type API string

// The calls this package makes. Token is not an API of Defender's but the
// request for an access token; it is never paced by a quota.
const (
	Token                 API = "token"
	MachineSecurityStates API = "machinesecuritystates"
	Machines              API = "machines"
	DeviceAVInfo          API = "deviceavinfo"
	DomainMachines        API = "domain_machines"
	DomainStats           API = "domain_stats"

	ExposureScore            API = "exposure_score"
	DeviceGroupExposureScore API = "device_group_exposure_score"
	DeviceSecureScore        API = "device_secure_score"
	Alerts                   API = "alerts"
)

// An apiRow describes one API: it is all that this package knows of it, apart
// from its entities.
type apiRow struct {
	name API
	// graph means that the host is Microsoft Graph, not the Defender API.
	graph bool
	// path is relative to the URL of the host. It may contain domainVariable.
	path string
	// query is that of the first page, probe that of the smallest call.
	query, probe string
	// top is the number of rows of a full page, where further pages are requested
	// by $skip. Zero where only links lead to them.
	top int
	// bounds are those of the list that the API returns. Zero where it returns none.
	bounds bounds
	// role is the application permission that an app registration needs. Empty
	// where none is documented.
	role string
	// limits are the documented ones where they are lower than those of most APIs.
	limits Limits
	// yields names what the API returns, for --diagnose.
	yields string
	// instead is what to do where a tenant does not have the API, for --diagnose. Empty
	// where every tenant has it.
	instead string
}

const domainVariable = "{domain}"

// apis holds every API but Token, in the order of --diagnose.
var apis = []apiRow{{
	name: MachineSecurityStates, graph: true, path: "testwdatppreview/machinesecuritystates",
	bounds: listBounds, yields: "security states of the Graph preview",
	instead: "the tenant does not have the preview: with security_states.source auto or machines the same facts come from machines and deviceavinfo",
}, {
	name: Machines, path: "api/machines", query: "$top=10000", probe: "$top=1", top: 10_000,
	bounds: listBounds, role: "Machine.Read.All", yields: "machines, their health, risk and exposure",
}, {
	name: DeviceAVInfo, path: "api/deviceavinfo", query: "$top=10000", probe: "$top=1", top: 10_000,
	bounds: listBounds, role: "Machine.Read.All", limits: Limits{CallsPerMinute: 30, CallsPerHour: 1000}, yields: "antivirus states of machines",
}, {
	name: DomainMachines, path: "api/domains/{domain}/machines",
	bounds: domainBounds, role: "Machine.Read.All", yields: "machines that contacted a domain",
}, {
	name: DomainStats, path: "api/domains/{domain}/stats", query: "lookBackHours=720",
	role: "URL.Read.All", yields: "prevalence of a domain",
}, {
	name: ExposureScore, path: "api/exposureScore",
	role: "Score.Read.All", yields: "exposure score",
}, {
	name: DeviceGroupExposureScore, path: "api/exposureScore/ByMachineGroups",
	bounds: deviceGroupBounds, role: "Score.Read.All", yields: "exposure scores of device groups",
}, {
	name: DeviceSecureScore, path: "api/configurationScore",
	role: "Score.Read.All", yields: "device secure score",
}, {
	// A row has up to 20 kB: full pages of the documented size would be too large.
	name: Alerts, path: "api/alerts", query: "$top=2000", probe: "$top=1", top: 2000,
	bounds: alertBounds, role: "Alert.Read.All", yields: "alerts, their severity, status and owner",
}}

// PacedAPIs returns the APIs whose calls a quota paces: all but Token.
func PacedAPIs() []API {
	names := make([]API, len(apis))
	for i, row := range apis {
		names[i] = row.name
	}
	return names
}

// Role is the application permission an app registration needs for the API, or
// empty where none is documented.
func (a API) Role() string { return a.row().role }

// row returns what is known of the API. The row of Token is empty.
func (a API) row() apiRow {
	for _, row := range apis {
		if row.name == a {
			return row
		}
	}
	return apiRow{}
}

// isPerDomain reports whether each call is about one domain.
func (r apiRow) isPerDomain() bool { return strings.Contains(r.path, domainVariable) }

// isList reports whether the API returns a list.
func (r apiRow) isList() bool { return r.bounds != bounds{} }

// of returns the limits of one API: what may be spent, and no more than what the
// API documents.
func (l Limits) of(api API) Limits {
	if documented := api.row().limits; documented != (Limits{}) {
		return l.and(documented)
	}
	return l
}

// serviceOf is where an API is.
func (c *Client) serviceOf(api API) *service {
	if api.row().graph {
		return c.graph
	}
	return c.api
}

// address is the URL of an API. The domain is ignored where its path has none.
func (c *Client) address(r apiRow, domain, query string) *url.URL {
	u := c.serviceOf(r.name).url.JoinPath(strings.Replace(r.path, domainVariable, url.PathEscape(domain), 1))
	u.RawQuery = query
	return u
}

// list is the list that an API returns.
func (c *Client) list(api API, domain string) list {
	r := api.row()
	return list{api: api, service: c.serviceOf(api), first: c.address(r, domain, r.query), top: r.top, bounds: r.bounds}
}
