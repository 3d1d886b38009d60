// Package client calls the Microsoft Defender for Endpoint APIs of one tenant. It gets
// tokens, paces and retries calls, reads responses page by page and yields their
// entities one at a time. It does not depend on Prometheus.
package client

import (
	"net/url"
	"strings"
)

// API names one kind of call. It is a value of the api label of the exporter's metrics.
type API string

// The calls that this package makes. Token is the request for an access token, which is
// not a Defender API and has no quota.
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

// An apiRow describes one API, apart from its entities.
type apiRow struct {
	name API
	// graph means that the host is Microsoft Graph, not the Defender API.
	graph bool
	// path is relative to the URL of the host. It may contain domainVariable.
	path string
	// query is the query of the first page, probe that of the smallest call.
	query, probe string
	// top is the number of rows of a full page if further pages are requested by $skip.
	// Zero if only links lead to them.
	top int
	// bounds are the limits of the list that the API returns. Zero if it returns no list.
	bounds bounds
	// role is the application permission that an app registration needs. Empty
	// if none is documented.
	role string
	// limits are the documented limits if they are lower than those of most APIs.
	limits Limits
	// description names what the API returns, for --diagnose.
	description string
	// alternative is what to do if a tenant does not have the API, for --diagnose. Empty
	// if every tenant has it.
	alternative string
}

const domainVariable = "{domain}"

// apis contains every API except Token, in the order of --diagnose.
var apis = []apiRow{{
	name: MachineSecurityStates, graph: true, path: "testwdatppreview/machinesecuritystates",
	bounds: listBounds, description: "security states of the Graph preview",
	alternative: "the tenant does not have the preview: set security_states.source to auto or machines, which read the same facts from machines and deviceavinfo",
}, {
	name: Machines, path: "api/machines", query: "$top=10000", probe: "$top=1", top: 10_000,
	bounds: listBounds, role: "Machine.Read.All", description: "machines, their health, risk and exposure",
}, {
	name: DeviceAVInfo, path: "api/deviceavinfo", query: "$top=10000", probe: "$top=1", top: 10_000,
	bounds: listBounds, role: "Machine.Read.All", limits: Limits{CallsPerMinute: 30, CallsPerHour: 1000}, description: "antivirus states of machines",
}, {
	name: DomainMachines, path: "api/domains/{domain}/machines",
	bounds: domainBounds, role: "Machine.Read.All", description: "machines that contacted a domain",
}, {
	name: DomainStats, path: "api/domains/{domain}/stats", query: "lookBackHours=720",
	role: "URL.Read.All", description: "prevalence of a domain",
}, {
	name: ExposureScore, path: "api/exposureScore",
	role: "Score.Read.All", description: "exposure score",
}, {
	name: DeviceGroupExposureScore, path: "api/exposureScore/ByMachineGroups",
	bounds: deviceGroupBounds, role: "Score.Read.All", description: "exposure scores of device groups",
}, {
	name: DeviceSecureScore, path: "api/configurationScore",
	role: "Score.Read.All", description: "device secure score",
}, {
	// A row has up to 20 kB: full pages of the documented size would be too large.
	name: Alerts, path: "api/alerts", query: "$top=2000", probe: "$top=1", top: 2000,
	bounds: alertBounds, role: "Alert.Read.All", description: "alerts, their severity, status and owner",
}}

// PacedAPIs returns the APIs that have a call quota: all except Token.
func PacedAPIs() []API {
	names := make([]API, len(apis))
	for i, row := range apis {
		names[i] = row.name
	}
	return names
}

// Role is the application permission that an app registration needs for the API, or
// empty if none is documented.
func (a API) Role() string { return a.row().role }

// row returns the API's entry in apis. That of Token is the zero apiRow.
func (a API) row() apiRow {
	for _, row := range apis {
		if row.name == a {
			return row
		}
	}
	return apiRow{}
}

// isPerDomain reports whether each call concerns one domain.
func (r apiRow) isPerDomain() bool { return strings.Contains(r.path, domainVariable) }

// isList reports whether the API returns a list.
func (r apiRow) isList() bool { return r.bounds != bounds{} }

// of returns the limits for one API: l, lowered to the limits that the API documents.
func (l Limits) of(api API) Limits {
	if documented := api.row().limits; documented != (Limits{}) {
		return l.smaller(documented)
	}
	return l
}

// serviceOf returns the service that has the API.
func (c *Client) serviceOf(api API) *service {
	if api.row().graph {
		return c.graph
	}
	return c.api
}

// address returns the URL of an API. The domain is ignored if the path does not contain one.
func (c *Client) address(r apiRow, domain, query string) *url.URL {
	u := c.serviceOf(r.name).url.JoinPath(strings.Replace(r.path, domainVariable, url.PathEscape(domain), 1))
	u.RawQuery = query
	return u
}

// list returns the list of an API, to be read by rows.
func (c *Client) list(api API, domain string) list {
	r := api.row()
	return list{api: api, service: c.serviceOf(api), first: c.address(r, domain, r.query), top: r.top, bounds: r.bounds}
}
