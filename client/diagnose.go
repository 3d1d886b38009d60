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

// Need is a group of APIs of which at least one must work.
type Need []API

// Diagnosis is the result of Client.Diagnose for one tenant.
type Diagnosis struct {
	Tenant string
	Checks []Check
}

// Complete reports whether everything that is needed works.
func (d Diagnosis) Complete() bool {
	return !slices.ContainsFunc(d.Checks, func(c Check) bool { return c.Result == Missing })
}

// Check is one check of a Diagnosis.
type Check struct {
	// Name is what was checked: a token, the clock, or the value of an API.
	Name   string
	Result Result
	// Found describes what happened.
	Found string
	// Remedy is what to do about it, empty if there is nothing to do.
	Remedy string
}

// Result is the result of a Check.
type Result string

const (
	// Works means that the check found nothing to fix.
	Works Result = "ok"
	// Missing means that the check failed and the configuration needs it.
	Missing Result = "MISSING"
	// Optional means that the check failed and the configuration does not need it.
	Optional Result = "optional"
)

// maxSkew is the clock skew beyond which Entra rejects assertions and tokens seem to
// expire at the wrong time.
const maxSkew = 5 * time.Minute

// Diagnose gets each token, makes the smallest call of each API once, and returns what
// works and what to fix. It takes at most a few request timeouts. Its calls count against
// the tenant's quota.
func (c *Client) Diagnose(ctx context.Context, needs ...Need) []Check {
	c.JoinQuotas()
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

// tokenClaims are the claims of a token that a diagnosis uses.
type tokenClaims struct {
	jwt.RegisteredClaims
	Roles []string `json:"roles"`
}

// diagnoseToken requests a token once and parses its claims. It does not verify the
// token.
func diagnoseToken(ctx context.Context, name string, s *service) (Check, tokenClaims) {
	var claims tokenClaims
	token, err := s.tokens.attempt(ctx)
	if err != nil {
		return Check{name, Optional, withoutCall(err), connectionRemedy(err)}, claims
	}
	found := "an opaque token, so its roles are unknown"
	if _, _, err := jwt.NewParser().ParseUnverified(token.AccessToken, &claims); err != nil {
		claims = tokenClaims{} // They may be partially parsed.
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
		return Check{Name: "clock", Result: Optional, Found: "not compared: no response of the sign-in host had a Date header"}
	case skew.Abs() > maxSkew:
		direction := "behind"
		if *skew < 0 {
			direction = "ahead of"
		}
		return Check{
			Name: "clock", Result: Missing,
			Found:  fmt.Sprintf("this machine is %s %s the sign-in host", skew.Abs().Round(time.Second), direction),
			Remedy: "set this machine's clock, for example by NTP",
		}
	}
	return Check{Name: "clock", Result: Works, Found: fmt.Sprintf("within %s of the sign-in host", max(skew.Abs(), time.Second).Round(time.Second))}
}

// probeDomain is a reserved domain that any organization may look up.
const probeDomain = "example.com"

// notTried is the finding of an API without a token.
const notTried = "not tried: no token"

// diagnoseAPI makes one call, without retries.
func (c *Client) diagnoseAPI(ctx context.Context, r apiRow, token Check, claims tokenClaims) Check {
	check := Check{Name: string(r.name), Result: Optional, Found: notTried}
	if token.Result != Works {
		return check
	}
	// Report that the quota is spent instead of waiting for it.
	ctx = WithRetryDeadline(ctx, time.Now().Add(c.timeout))
	response, _, err := c.attempt(ctx, r.name, c.address(r, probeDomain, r.probe))
	if err == nil {
		err = r.readProbe(response)
		response.close()
	}
	// Older services return 404 for a domain that no machine contacted.
	if err == nil || r.isPerDomain() && IsNotFound(err) {
		check.Result, check.Found = Works, r.description
		return check
	}
	err = c.secrets.error(err)
	check.Found, check.Remedy = withoutCall(err), callRemedy(err, r, c.serviceOf(r.name).url.Host, claims)
	return check
}

// readProbe checks the shape of the response: a list must have the member "value".
func (r apiRow) readProbe(a *apiResponse) error {
	var d decoder
	d.open(a)
	for d.begin('{'); d.more('{'); {
		name := d.name()
		if r.isList() && name == "value" && d.peek() == '[' && d.serviceErr == nil {
			return nil
		}
		d.readError(name, d.read())
	}
	if r.isList() {
		d.fail(`it is not a list: it has no member "value"`)
	}
	d.finish()
	if d.err != nil {
		return d.problem(r.name)
	}
	return nil
}

// callRemedy returns what to do about a call that failed with a valid token.
func callRemedy(err error, r apiRow, host string, claims tokenClaims) string {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return ""
	}
	switch {
	case r.alternative != "" && slices.Contains([]int{400, 401, 403, 404, 410}, e.Status):
		return r.alternative
	case e.Reason == ReasonForbidden && r.role != "" && slices.Contains(claims.Roles, r.role):
		return fmt.Sprintf("the token has the role %s, so the tenant denies access: check that it is licensed for Defender for Endpoint and that the feature is on", r.role)
	case e.Reason == ReasonForbidden && r.role != "":
		return fmt.Sprintf("add the application permission %s of WindowsDefenderATP to the app registration and grant admin consent", r.role)
	case e.Status == http.StatusUnauthorized && len(claims.Audience) > 0:
		return fmt.Sprintf("%s does not accept a token for %s: check that api_url and api_scope belong to the same cloud", host, strings.Join(claims.Audience, " "))
	case e.Status == http.StatusTooManyRequests:
		return "the tenant's quota is spent: check what else calls this API with the same app, and try again later"
	case e.Reason == ReasonDecode, e.Status >= 300 && e.Status < 400, e.Status == http.StatusNotFound:
		return fmt.Sprintf("check that %s is the API's host and that no proxy responds in its place", host)
	}
	return connectionRemedy(err)
}

// connectionRemedy returns what to do about a call that got no response.
func connectionRemedy(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Sprintf("this machine cannot resolve %s: check its DNS and the URL, or set http_config.proxy_url if only a proxy can resolve it", dns.Name)
	}
	if operation, ok := errors.AsType[*net.OpError](err); ok && operation.Op == "proxyconnect" {
		return "the proxy cannot be reached: check http_config.proxy_url, or the proxy variables of the environment"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "the certificate is signed by an unknown authority, perhaps that of a proxy that inspects TLS: set http_config.tls_config.ca_file to its CA"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the certificate is for another host: check the URL and whether a proxy responds in its place"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "by this machine's clock the certificate is not valid now: check the clock first"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return "the server does not speak TLS: check the URL's scheme and port, and the proxy"
	}
	if e, ok := errors.AsType[*Error](err); ok && e.advice != "" {
		return e.advice
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing accepts connections there: check the URL, the firewall and whether a proxy is needed (http_config.proxy_url)"
	case ReasonOf(err) == ReasonTimeout:
		return "no response in time: a firewall may drop the packets; allow the host, or set http_config.proxy_url"
	case ReasonOf(err) == ReasonNetwork:
		return "check the firewall and whether a proxy is needed (http_config.proxy_url)"
	case ReasonOf(err) == ReasonServer:
		return "the service is unavailable: try again later"
	}
	return ""
}

// instanceDetails matches what differs between failures of one cause: ids, names that a
// service quotes, local addresses, durations, dates, and offsets in a response.
var instanceDetails = regexp.MustCompile(`\B(')[^']{2,}'|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|\S+:\d+->|` +
	`(?:\b(?:for|another) )?\b(?:\d+(?:\.\d+)?(?:h|m|s|ms))+\b|\b\d{4}-\d\d-\d\d\b|\boffset \d+|(\btenant named )[^.]+`)

// normalize removes from a text what differs from tenant to tenant, such as ids and files
// named after the tenant, so that texts of one cause are equal.
func normalize(text, tenant string) string {
	text = instanceDetails.ReplaceAllString(text, "${2}${1}…${1}")
	named := regexp.MustCompile(`([/\\])` + regexp.QuoteMeta(tenant) + `\b`)
	return named.ReplaceAllString(text, "${1}…")
}

// Explain returns the cause of the first failed call in err, and the remedy that Diagnose
// would give, as far as the error alone shows it. Both are normalized, so that failures
// of one cause have the same texts in all tenants. The cause of an error from another
// package is its text.
func Explain(err error, tenant string) (cause, remedy string) {
	remedy = connectionRemedy(err)
	if e, ok := errors.AsType[*Error](err); ok {
		if row := e.API.row(); row.graph {
			remedy = callRemedy(err, row, "graph_url", tokenClaims{})
		} else if row.name != "" {
			remedy = callRemedy(err, row, "api_url", tokenClaims{})
		}
	}
	return normalize(withoutCall(err), tenant), normalize(remedy, tenant)
}

// withoutCall returns the text of the error without the API and the advice, which a Check
// shows separately.
func withoutCall(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		happened := *e
		happened.API, happened.advice = "", ""
		return happened.Error()
	}
	return err.Error()
}
