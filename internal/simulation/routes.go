package simulation

import (
	"net/http"
	"strings"
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

// route serves the calls of an origin; all others are recorded and answered
// with 404.
func (t *Tenant) route(origin Origin) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		api, at, answer := t.find(r)
		if at&origin == 0 {
			api, answer = Unknown, (*exchange).unknownPath
		}
		x := &exchange{Tenant: t, api: api, r: r}
		x.answer = &answerWriter{w: w, r: r, call: &x.call}
		x.call = t.log.begin(Call{
			At: time.Now(), API: api, Origin: origin, Method: r.Method, Target: r.URL.RequestURI(),
			Audience: t.audienceOf(r), Authorized: r.Header.Get("Authorization") != "",
		})
		defer t.log.end(&x.call)
		x.serve(answer)
	})
}

// find tells which call a request is and how it is answered.
func (t *Tenant) find(r *http.Request) (API, Origin, func(*exchange)) {
	path := r.URL.Path
	switch {
	case path == "/testwdatppreview/machinesecuritystates":
		return MachineSecurityStates, GraphOrigin, (*exchange).machineSecurityStates
	case path == "/api/machines":
		return Machines, APIOrigin, (*exchange).machines
	case path == "/api/deviceavinfo":
		return DeviceAVInfo, APIOrigin, (*exchange).deviceAVInfo
	case path == "/metadata/identity/oauth2/token":
		return Token, LoginOrigin, (*exchange).managedIdentityToken
	case strings.HasSuffix(path, "/oauth2/v2.0/token"):
		return Token, LoginOrigin, (*exchange).token
	}
	if rest, ok := strings.CutPrefix(path, "/api/domains/"); ok {
		if _, what, ok := strings.Cut(rest, "/"); ok {
			switch what {
			case "machines":
				return DomainMachines, APIOrigin, (*exchange).domainMachines
			case "stats":
				return DomainStats, APIOrigin, (*exchange).domainStats
			}
		}
	}
	return Unknown, 0, (*exchange).unknownPath
}

// exchange is one request and its answer.
type exchange struct {
	*Tenant
	api    API
	r      *http.Request
	answer *answerWriter
	call   Call
	fault  Fault // what was scripted for this call, the zero Fault if nothing
}

// serve answers: limits come first, as in front of the real service, then
// scripted faults, then the API itself.
func (x *exchange) serve(answer func(*exchange)) {
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
	answer(x)
}

func (x *exchange) unknownPath() {
	x.refuse(http.StatusNotFound, "ResourceNotFound", "No HTTP resource was found that matches the request.")
}

// authorize checks the bearer token and tells whether the call may go on.
func (x *exchange) authorize(audience, role string) bool {
	claims, err := x.verify(x.r)
	switch {
	case err != nil:
		x.refuse(http.StatusUnauthorized, "Unauthorized", "The access token is missing, expired or not valid: "+err.Error())
	case claims.resource() != audience:
		x.refuse(http.StatusUnauthorized, "Unauthorized", "Invalid audience: the access token is not for this API.")
	case role != "" && !claims.has(role):
		x.refuse(http.StatusForbidden, "Forbidden", "Application does not have any of the required application permissions ("+role+") to access the resource.")
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
