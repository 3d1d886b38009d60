package simulation

import (
	"net/http"
	"path"
	"time"
)

// Origin is a role that a host can play.
type Origin int

// The origins. One host can play all the roles.
const (
	LoginOrigin Origin = 1 << iota
	GraphOrigin
	APIOrigin
	AllOrigins = LoginOrigin | GraphOrigin | APIOrigin
)

// audience is whom the tokens are for that calls of the origin present; empty
// where they present none.
func (o Origin) audience() string {
	return map[Origin]string{GraphOrigin: GraphAudience, APIOrigin: APIAudience}[o]
}

// endpoint is one kind of call and how it is answered.
type endpoint struct {
	api    API
	host   Origin
	path   string // in it * stands for anything but a slash
	role   string // that the token must hold; empty for none
	limit  Limit  // as documented
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

// endpointOf finds the endpoint of a path at hosts that play these roles.
func endpointOf(urlPath string, origin Origin) endpoint {
	for _, e := range endpoints {
		if ok, _ := path.Match(e.path, urlPath); ok && e.host&origin != 0 {
			return e
		}
	}
	return endpoints[len(endpoints)-1]
}

// route serves the calls of an origin; all others are recorded and answered
// with 404.
func (t *Tenant) route(origin Origin) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{Tenant: t, endpoint: endpointOf(r.URL.Path, origin), r: r}
		x.answer = &answerWriter{w: w, r: r, call: &x.call}
		x.call = t.log.begin(Call{
			At: time.Now(), API: x.api, Origin: origin, Method: r.Method, Target: r.URL.RequestURI(),
			Audience: t.audienceOf(r), Authorized: r.Header.Get("Authorization") != "",
		})
		defer t.log.end(&x.call)
		x.serve()
	})
}

// exchange is one request and its answer.
type exchange struct {
	*Tenant
	endpoint
	r      *http.Request
	answer *answerWriter
	call   Call
	fault  Fault // what was scripted for this call, the zero Fault if nothing
}

// serve answers: limits come first, as in front of the real service, then
// scripted faults, then the API itself.
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
		x.refuseStatus(preview)
		return
	}
	if x.host.audience() == "" || x.authorize() {
		x.handle(x)
	}
}

func (x *exchange) unknownPath() {
	x.refuse(http.StatusNotFound, "ResourceNotFound", "No HTTP resource was found that matches the request.")
}

// authorize checks the bearer token and reports whether the call may continue.
func (x *exchange) authorize() bool {
	claims, err := x.verify(x.r)
	switch {
	case err != nil:
		x.refuse(http.StatusUnauthorized, "Unauthorized", "The access token is missing, expired or not valid: "+err.Error())
	case claims.resource() != x.host.audience():
		x.refuse(http.StatusUnauthorized, "Unauthorized", "Invalid audience: the access token is not for this API.")
	case x.role != "" && !claims.has(x.role):
		x.refuse(http.StatusForbidden, "Forbidden", "Application does not have any of the required application permissions ("+x.role+") to access the resource.")
	case x.r.Method != http.MethodGet:
		x.refuse(http.StatusMethodNotAllowed, "BadRequest", "The requested resource does not support http method '"+x.r.Method+"'.")
	default:
		return true
	}
	return false
}

// origin is the scheme and host that the client called.
func (x *exchange) origin() string {
	if x.r.TLS != nil {
		return "https://" + x.r.Host
	}
	return "http://" + x.r.Host
}
