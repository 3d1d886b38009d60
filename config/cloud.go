package config

import (
	"net/url"
	"strings"
)

// The names of Microsoft's clouds, as in Prometheus's azuread block. AzureGCC is
// Defender's name for US government tenants in the commercial cloud.
const (
	azurePublic     = "AzurePublic"
	azureGCC        = "AzureGCC"
	azureGovernment = "AzureGovernment"
)

// cloud holds the endpoints of a cloud and the scope of Graph tokens.
type cloud struct {
	name string
	Endpoints
	graphScope string
}

// clouds are the documented clouds. AzureGovernment is GCC High and DoD.
var clouds = []cloud{
	{
		name: azurePublic,
		Endpoints: Endpoints{
			LoginURL: "https://login.microsoftonline.com",
			GraphURL: "https://graph.microsoft.com",
			APIURL:   "https://api.security.microsoft.com",
			APIScope: "https://api.securitycenter.microsoft.com/.default",
		},
		graphScope: "https://graph.microsoft.com/.default",
	},
	{
		name: azureGCC,
		Endpoints: Endpoints{
			LoginURL: "https://login.microsoftonline.com",
			GraphURL: "https://graph.microsoft.com",
			APIURL:   "https://api-gcc.securitycenter.microsoft.us",
			APIScope: "https://api-gcc.securitycenter.microsoft.us/.default",
		},
		graphScope: "https://graph.microsoft.com/.default",
	},
	{
		name: azureGovernment,
		Endpoints: Endpoints{
			LoginURL: "https://login.microsoftonline.us",
			GraphURL: "https://graph.microsoft.us",
			APIURL:   "https://api-gov.securitycenter.microsoft.us",
			APIScope: "https://api-gov.securitycenter.microsoft.us/.default",
		},
		graphScope: "https://graph.microsoft.us/.default",
	},
}

// cloudNamed returns the cloud of a name, or the first cloud and false.
func cloudNamed(name string) (cloud, bool) {
	for _, c := range clouds {
		if c.name == name {
			return c, true
		}
	}
	return clouds[0], false
}

// cloudOf returns the name of the cloud with the API host of e, or else with its
// sign-in host. It returns AzurePublic for unknown hosts.
func cloudOf(e Endpoints) string {
	for _, c := range clouds {
		if sameHost(e.APIURL, c.APIURL) {
			return c.name
		}
	}
	for _, c := range clouds {
		if sameHost(e.LoginURL, c.LoginURL) {
			return c.name
		}
	}
	return azurePublic
}

// graphScopeOf returns the scope of tokens for a Graph host. The Department of Defense
// has a separate Graph host in AzureGovernment. Hosts that are not Microsoft's use the
// cloud's scope.
func (c cloud) graphScopeOf(graphURL string) string {
	for _, host := range []string{"https://graph.microsoft.com", "https://graph.microsoft.us", "https://dod-graph.microsoft.us"} {
		if sameHost(graphURL, host) {
			return host + "/.default"
		}
	}
	return c.graphScope
}

func sameHost(a, b string) bool {
	x, errX := url.Parse(a)
	y, errY := url.Parse(b)
	return errX == nil && errY == nil && strings.EqualFold(x.Host, y.Host)
}
