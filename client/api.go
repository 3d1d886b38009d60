// Package client speaks to the Microsoft Defender for Endpoint APIs of one
// tenant: it gets tokens, paces and retries calls, reads answers page by page
// and yields their entities one at a time. It knows HTTP and JSON, and nothing
// of Prometheus.
package client

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
)

// PacedAPIs returns the APIs whose calls a quota paces: all but Token.
func PacedAPIs() []API {
	return []API{MachineSecurityStates, Machines, DeviceAVInfo, DomainMachines, DomainStats}
}

// Role is the application permission an app registration needs for the API, or
// empty where none is documented.
func (a API) Role() string {
	switch a {
	case Machines, DeviceAVInfo, DomainMachines:
		return "Machine.Read.All"
	case DomainStats:
		return "URL.Read.All"
	default:
		return ""
	}
}
