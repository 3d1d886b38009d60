package simulation

import (
	"net/http"
	"path"
	"time"
)

// Origin is a set of services that a host provides.
type Origin int

// The origins. One host can provide all of them.
const (
	LoginOrigin Origin = 1 << iota
	GraphOrigin
	APIOrigin
	AllOrigins = LoginOrigin | GraphOrigin | APIOrigin
)

// audience returns the token audience of the origin's calls. Empty means that
// they need no token.
func (o Origin) audience() string {
	return map[Origin]string{GraphOrigin: GraphAudience, APIOrigin: APIAudience}[o]
}

// endpoint is one kind of call and its handler.
type endpoint struct {
	api    API
	host   Origin
	path   string // * matches anything but a slash
	role   string // required role; empty for none
	limit  Limit  // documented limit
	handle func(*exchange)
}

var common = Limit{PerMinute: 100, PerHour: 1500}

var endpoints = [...]endpoint{
	{Token, LoginOrigin, "/metadata/identity/oauth2/token", "", Limit{}, (*exchange).managedIdentityToken},
	{Token, LoginOrigin, "/*/oauth2/v2.0/token", "", Limit{}, (*exchange).token},
	{MachineSecurityStates, GraphOrigin, "/testwdatppreview/machinesecuritystates", "", common, (*exchange).machineSecurityStates},
	{Machines, APIOrigin, "/api/machines", RoleMachines, common, (*exchange).machines},
	{DeviceAVInfo, APIOrigin, "/api/deviceavinfo", RoleMachines, Limit{30, 1000}, (*exchange).deviceAVInfo},
	{DomainMachines, APIOrigin, "/api/domains/*/machines", RoleMachines, common, (*exchange).domainMachines},
	{DomainStats, APIOrigin, "/api/domains/*/stats", RoleStatistics, common, (*exchange).domainStats},
	{ExposureScore, APIOrigin, "/api/exposureScore", RoleScores, common, (*exchange).exposureScore},
	{DeviceGroupExposureScore, APIOrigin, "/api/exposureScore/ByMachineGroups", RoleScores, common, (*exchange).groupScores},
	{DeviceSecureScore, APIOrigin, "/api/configurationScore", RoleScores, common, (*exchange).configurationScore},
	{Alerts, APIOrigin, "/api/alerts", RoleAlerts, common, (*exchange).alerts},
	{Unknown, 0, "*", "", Limit{}, (*exchange).unknownPath},
}

// endpointOf returns the endpoint of a path at a host with these origins.
func endpointOf(urlPath string, origin Origin) endpoint {
	for _, e := range endpoints {
		if ok, _ := path.Match(e.path, urlPath); ok && e.host&origin != 0 {
			return e
		}
	}
	return endpoints[len(endpoints)-1]
}

// route serves the calls of an origin. It records all other calls and responds
// with 404.
func (t *Tenant) route(origin Origin) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{Tenant: t, endpoint: endpointOf(r.URL.Path, origin), r: r}
		x.response = &responseWriter{w: w, r: r, call: &x.call}
		x.call = t.log.begin(Call{
			At: time.Now(), API: x.api, Origin: origin, Method: r.Method, Target: r.URL.RequestURI(),
			Audience: t.audienceOf(r), Authorized: r.Header.Get("Authorization") != "",
		})
		defer t.log.end(&x.call)
		x.serve()
	})
}

// exchange is one request and its response.
type exchange struct {
	*Tenant
	endpoint
	r        *http.Request
	response *responseWriter
	call     Call
	fault    Fault // the call's fault; zero for none
}

// serve responds to the call: limits apply first, as in the real service, then
// faults, then the API.
func (x *exchange) serve() {
	if wait := x.limits.take(x.api, x.call.At); wait > 0 {
		x.throttle(wait)
		return
	}
	if fault, ok := x.takeFault(x.api, x.r); ok {
		x.fault = fault
		if x.fail() {
			return
		}
	}
	x.mu.Lock()
	preview := x.preview
	x.mu.Unlock()
	if x.api == MachineSecurityStates && preview != 0 {
		x.rejectStatus(preview)
		return
	}
	if x.host.audience() == "" || x.authorize() {
		x.handle(x)
	}
}

func (x *exchange) unknownPath() {
	x.reject(http.StatusNotFound, "ResourceNotFound", "No HTTP resource was found that matches the request.")
}

// authorize checks the bearer token. If it rejects the call, it returns false.
func (x *exchange) authorize() bool {
	claims, err := x.verify(x.r)
	switch {
	case err != nil:
		x.reject(http.StatusUnauthorized, "Unauthorized", "The access token is missing, expired or not valid: "+err.Error())
	case claims.resource() != x.host.audience():
		x.reject(http.StatusUnauthorized, "Unauthorized", "Invalid audience: the access token is not for this API.")
	case x.role != "" && !claims.has(x.role):
		x.reject(http.StatusForbidden, "Forbidden", "Application does not have any of the required application permissions ("+x.role+") to access the resource.")
	case x.r.Method != http.MethodGet:
		x.reject(http.StatusMethodNotAllowed, "BadRequest", "The requested resource does not support http method '"+x.r.Method+"'.")
	default:
		return true
	}
	return false
}

// origin returns the scheme and host that the client called.
func (x *exchange) origin() string {
	if x.r.TLS != nil {
		return "https://" + x.r.Host
	}
	return "http://" + x.r.Host
}
