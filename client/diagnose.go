package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Need is a group of APIs of which one must work. A Need of one API is that
// API's; one of MachineSecurityStates and Machines is met by either.
type Need []API

// Diagnosis is what was found out about one tenant.
type Diagnosis struct {
	Tenant string
	Checks []Check
}

// Complete reports whether all that is needed works.
func (d Diagnosis) Complete() bool {
	return !slices.ContainsFunc(d.Checks, func(c Check) bool { return c.Result == Missing })
}

// Check is one thing that was tried.
type Check struct {
	// Name is what was tried: a token, the clock, or an API by its value.
	Name   string
	Result Result
	// Found is what happened, in words.
	Found string
	// Remedy is what to do about it, empty where nothing is to be done.
	Remedy string
}

// Result is how a check went.
type Result string

const (
	// Works means that the check found nothing to fix.
	Works Result = "ok"
	// Missing means that it does not work and is needed.
	Missing Result = "MISSING"
	// Optional means that it does not work, and nothing that is configured needs it.
	Optional Result = "optional"
)

// credibleSkew is how far two clocks may be apart: more, and Entra refuses
// assertions and tokens seem to expire at the wrong time.
const credibleSkew = 5 * time.Minute

// Diagnose gets each token and makes the smallest call of each API, once, and
// reports what works and what to fix. It takes at most a few request timeouts.
// The calls are part of the tenant's quota like all others.
func (c *Client) Diagnose(ctx context.Context, needs ...Need) []Check {
	c.TakePart()
	graph, graphClaims := diagnoseToken(ctx, "Graph token", c.graph)
	api, apiClaims := diagnoseToken(ctx, "API token", c.api)
	checks := []Check{graph, api, c.diagnoseClock()}
	for _, row := range apis {
		if row.graph {
			checks = append(checks, c.diagnoseAPI(ctx, row, graph, graphClaims))
		} else {
			checks = append(checks, c.diagnoseAPI(ctx, row, api, apiClaims))
		}
	}
	for _, need := range needs {
		if slices.ContainsFunc(checks, func(c Check) bool { return c.Result == Works && slices.Contains(need, API(c.Name)) }) {
			continue
		}
		for _, missing := range need {
			token := api.Name
			if missing.row().graph {
				token = graph.Name
			}
			for i, check := range checks {
				if check.Result == Optional && (check.Name == string(missing) || check.Name == token) {
					checks[i].Result = Missing
				}
			}
		}
	}
	return checks
}

// tokenClaims are what a token says of itself.
type tokenClaims struct {
	jwt.RegisteredClaims
	Roles []string `json:"roles"`
}

// diagnoseToken asks for a token, once, and reads what stands in it. It is not
// verified: that is for the API it is made for.
func diagnoseToken(ctx context.Context, name string, s *service) (Check, tokenClaims) {
	var claims tokenClaims
	token, err := s.tokens.attempt(ctx)
	if err != nil {
		return Check{name, Optional, withoutCall(err), connectionRemedy(err)}, claims
	}
	found := "an opaque token, its roles cannot be read"
	if _, _, err := jwt.NewParser().ParseUnverified(token.AccessToken, &claims); err != nil {
		claims = tokenClaims{} // It may be half read.
	} else {
		roles := "no roles"
		if len(claims.Roles) > 0 {
			roles = "roles " + s.tokens.secrets.text(strings.Join(slices.Sorted(slices.Values(claims.Roles)), " "))
		}
		claims.Audience = jwt.ClaimStrings{s.tokens.secrets.text(strings.Join(claims.Audience, " "))}
		found = fmt.Sprintf("for %s, %s", claims.Audience[0], roles)
	}
	return Check{Name: name, Result: Works, Found: found + ", expires in " + time.Until(token.Expiry).Round(time.Second).String()}, claims
}

// diagnoseClock compares this machine's clock with the sign-in host's.
func (c *Client) diagnoseClock() Check {
	skew := c.api.tokens.transport.skew.Load()
	if skew == nil {
		skew = c.graph.tokens.transport.skew.Load()
	}
	switch {
	case skew == nil:
		return Check{Name: "clock", Result: Optional, Found: "not compared: no answer of the sign-in host named the time"}
	case skew.Abs() > credibleSkew:
		direction := "behind"
		if *skew < 0 {
			direction = "ahead of"
		}
		return Check{
			Name: "clock", Result: Missing,
			Found:  fmt.Sprintf("this machine is %s %s the sign-in host", skew.Abs().Round(time.Second), direction),
			Remedy: "set this machine's clock, for instance by NTP",
		}
	}
	return Check{Name: "clock", Result: Works, Found: fmt.Sprintf("within %s of the sign-in host", max(skew.Abs(), time.Second).Round(time.Second))}
}

// probedDomain is one that any organization may look up and that no one owns.
const probedDomain = "example.com"

// notTried is what is found out about an API whose token is missing.
const notTried = "not tried: there is no token for it"

// diagnoseAPI makes one call, without a second try.
func (c *Client) diagnoseAPI(ctx context.Context, r apiRow, token Check, claims tokenClaims) Check {
	check := Check{Name: string(r.name), Result: Optional, Found: notTried}
	if token.Result != Works {
		return check
	}
	// Where the quota is spent, say so instead of waiting for it.
	ctx = WithRetryDeadline(ctx, time.Now().Add(c.timeout))
	answer, _, err := c.attempt(ctx, r.name, c.address(r, probedDomain, r.probe))
	if err == nil {
		err = r.readProbe(answer)
		answer.close()
	}
	// Older services say so where nobody contacted the domain.
	if err == nil || r.isPerDomain() && IsNotFound(err) {
		check.Result, check.Found = Works, r.yields
		return check
	}
	err = c.secrets.error(err)
	check.Found, check.Remedy = withoutCall(err), callRemedy(err, r, c.serviceOf(r.name).url.Host, claims)
	return check
}

// readProbe looks at the answer as far as its shape shows: a list must have a value.
func (r apiRow) readProbe(a *answer) error {
	var d decoder
	d.open(a)
	for d.begin('{'); d.more('{'); {
		name := d.name()
		if r.isList() && name == "value" && d.next() == '[' && d.refusal == nil {
			return nil
		}
		d.readError(name, d.read())
	}
	if r.isList() {
		d.fail("it has no value: this is no list")
	}
	d.finish()
	if d.err != nil {
		return d.problem(r.name)
	}
	return nil
}

// callRemedy returns what to do about a call that failed although there is a token.
func callRemedy(err error, r apiRow, host string, claims tokenClaims) string {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return ""
	}
	switch {
	case r.instead != "" && slices.Contains([]int{400, 401, 403, 404, 410}, e.Status):
		return r.instead
	case e.Reason == ReasonForbidden && r.role != "" && slices.Contains(claims.Roles, r.role):
		return fmt.Sprintf("the token holds the role %s, so the tenant itself says no: check that it is licensed for Defender for Endpoint and that the feature is on", r.role)
	case e.Reason == ReasonForbidden && r.role != "":
		return fmt.Sprintf("add the application permission %s of WindowsDefenderATP to the app registration and grant admin consent", r.role)
	case e.Status == http.StatusUnauthorized && len(claims.Audience) > 0:
		return fmt.Sprintf("%s does not accept a token for %s: check that api_url and api_scope belong to the same cloud", host, strings.Join(claims.Audience, " "))
	case e.Status == http.StatusTooManyRequests:
		return "the tenant's quota is spent for now: find out what else calls this API with the same app, and try again later"
	case e.Reason == ReasonDecode, e.Status >= 300 && e.Status < 400, e.Status == http.StatusNotFound:
		return fmt.Sprintf("check that %s is the API's host and that no proxy answers in its place", host)
	}
	return connectionRemedy(err)
}

// connectionRemedy returns what to do about a call that never came to an answer.
func connectionRemedy(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Sprintf("this machine cannot resolve %s: check its DNS and the spelling of the URL, or set http_config.proxy_url where only a proxy can", dns.Name)
	}
	if operation, ok := errors.AsType[*net.OpError](err); ok && operation.Op == "proxyconnect" {
		return "the proxy cannot be reached: check http_config.proxy_url, or the proxy variables of the environment"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "the certificate is signed by an authority that this machine does not know, as where a proxy inspects TLS: name its CA in http_config.tls_config.ca_file"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the certificate is another host's: check the URL and what answers in its place"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "by this machine's clock the certificate is not valid now: check the clock first"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return "what answers does not speak TLS: check the URL's scheme and port, and the proxy"
	}
	if e, ok := errors.AsType[*Error](err); ok && e.advice != "" {
		return e.advice
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing accepts connections there: check the URL, the firewall and whether a proxy is needed (http_config.proxy_url)"
	case ReasonOf(err) == ReasonTimeout:
		return "no answer came in time: a firewall may drop the packets; allow the host, or set http_config.proxy_url"
	case ReasonOf(err) == ReasonNetwork:
		return "check the firewall and whether a proxy is needed (http_config.proxy_url)"
	case ReasonOf(err) == ReasonServer:
		return "the service is in trouble: try again later"
	}
	return ""
}

// individual is what differs between failures of one cause: ids, names that a service
// quotes, the near end of a connection, durations, dates, and places in an answer.
var individual = regexp.MustCompile(`\B(')[^']{2,}'|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|\S+:\d+->|` +
	`(?:\b(?:for|another) )?\b(?:\d+(?:\.\d+)?(?:h|m|s|ms))+\b|\b\d{4}-\d\d-\d\d\b|\boffset \d+|(\btenant named )[^.]+`)

// alike returns a text about a tenant without what differs from tenant to tenant, such
// as ids and files named after it, so that texts of one cause are equal.
func alike(text, tenant string) string {
	text = individual.ReplaceAllString(text, "${2}${1}…${1}")
	named := regexp.MustCompile(`([/\\])` + regexp.QuoteMeta(tenant) + `\b`)
	return named.ReplaceAllString(text, "${1}…")
}

// Explain returns what happened in the first failed call of err, and the remedy that
// Diagnose has for it, as far as the error alone shows it. Neither has what differs
// from tenant to tenant, so that failures of one cause are explained alike. Of an
// error from elsewhere it returns the text.
func Explain(err error, tenant string) (cause, remedy string) {
	remedy = connectionRemedy(err)
	if e, ok := errors.AsType[*Error](err); ok {
		if row := e.API.row(); row.graph {
			remedy = callRemedy(err, row, "graph_url", tokenClaims{})
		} else if row.name != "" {
			remedy = callRemedy(err, row, "api_url", tokenClaims{})
		}
	}
	return alike(withoutCall(err), tenant), alike(remedy, tenant)
}

// withoutCall is the error without the name of the call, which stands beside it,
// and without the advice, which stands below it.
func withoutCall(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		happened := *e
		happened.API, happened.advice = "", ""
		return happened.Error()
	}
	return err.Error()
}
