package simulation

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The audiences of the tenant's tokens. Names of these resources in other clouds
// are equivalent.
const (
	GraphAudience = "https://graph.microsoft.com"
	APIAudience   = "https://api.securitycenter.microsoft.com"
)

// resources maps the resources that tokens can be requested for to their
// audiences. The last one is real, and a common mistake: that host requires
// tokens for APIAudience.
var resources = map[string]string{
	GraphAudience:                                 GraphAudience,
	"https://graph.microsoft.us":                  GraphAudience,
	"https://dod-graph.microsoft.us":              GraphAudience,
	APIAudience:                                   APIAudience,
	"https://api-gcc.securitycenter.microsoft.us": APIAudience,
	"https://api-gov.securitycenter.microsoft.us": APIAudience,
	"https://api.security.microsoft.com":          "https://api.security.microsoft.com",
}

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// SetSecrets sets the valid client secrets. Several are valid at once during a
// rotation.
func (t *Tenant) SetSecrets(secrets ...string) { t.set(func() { t.secrets = setOf(secrets, false) }) }

// ExpireSecret makes a client secret expire.
func (t *Tenant) ExpireSecret(secret string) { t.set(func() { t.secrets[secret] = true }) }

// RegisterCertificate adds a certificate that the app can sign in with.
func (t *Tenant) RegisterCertificate(c *x509.Certificate) {
	t.set(func() { t.certificates = append(t.certificates, c) })
}

// SetAssertions sets the valid federated tokens, compared as text.
func (t *Tenant) SetAssertions(assertions ...string) {
	t.set(func() { t.assertions = setOf(assertions, true) })
}

// SetRoles sets the roles in new tokens for the Defender API. Without roles the
// app gets a token that every API rejects.
func (t *Tenant) SetRoles(roles ...string) { t.set(func() { t.roles = roles }) }

// RefuseGraphToken changes Options.NoGraphToken.
func (t *Tenant) RefuseGraphToken(reject bool) { t.set(func() { t.noGraphToken = reject }) }

// RevokeTokens invalidates all tokens issued so far.
func (t *Tenant) RevokeTokens() { t.set(func() { t.generation++ }) }

func setOf(names []string, value bool) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = value
	}
	return set
}

// claims are the claims of the tenant's tokens.
type claims struct {
	AppID      string   `json:"appid"`
	TenantID   string   `json:"tid"`
	Roles      []string `json:"roles,omitempty"`
	Version    string   `json:"ver"`
	Generation int      `json:"gen"`
	jwt.RegisteredClaims
}

// resource returns the token's audience from resources, or "".
func (c *claims) resource() string {
	if len(c.Audience) != 1 {
		return ""
	}
	return resources[c.Audience[0]]
}

func (c *claims) has(role string) bool { return slices.Contains(c.Roles, role) }

// token serves POST /{tenant}/oauth2/v2.0/token.
func (x *exchange) token() {
	x.r.Body = http.MaxBytesReader(x.response.w, x.r.Body, 1<<20)
	err := x.r.ParseForm()
	form := x.r.PostForm
	directory, _, _ := strings.Cut(strings.TrimPrefix(x.r.URL.Path, "/"), "/")
	id, secret := form.Get("client_id"), form.Get("client_secret")
	if user, password, ok := x.r.BasicAuth(); ok {
		id, _ = url.QueryUnescape(user)
		secret, _ = url.QueryUnescape(password)
	}
	switch grant := form.Get("grant_type"); {
	case x.r.Method != http.MethodPost:
		x.signInFailure(http.StatusBadRequest, "invalid_request", 900561, "The endpoint only accepts POST requests. Received a "+x.r.Method+" request.")
	case err != nil:
		x.signInFailure(http.StatusBadRequest, "invalid_request", 9002313, "Invalid request. Request is malformed or invalid.")
	case !x.options.MultiTenant && !strings.EqualFold(directory, x.options.TenantID):
		x.signInFailure(http.StatusBadRequest, "invalid_request", 90002, fmt.Sprintf("Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.", directory))
	case grant == "":
		x.signInFailure(http.StatusBadRequest, "invalid_request", 900144, "The request body must contain the following parameter: 'grant_type'.")
	case grant != "client_credentials":
		x.signInFailure(http.StatusBadRequest, "unsupported_grant_type", 70003, fmt.Sprintf("The app requested an unsupported grant type '%s'.", grant))
	case id != x.options.ClientID:
		x.signInFailure(http.StatusBadRequest, "unauthorized_client", 700016, fmt.Sprintf("Application with identifier '%s' was not found in the directory. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant.", id))
	default:
		x.signIn(form, secret)
	}
}

// signIn checks the app's credential and issues a token.
func (x *exchange) signIn(form url.Values, secret string) {
	var code int
	var text string
	if form.Get("client_assertion_type") == assertionType {
		code, text = x.checkAssertion(form.Get("client_assertion"))
	} else {
		code, text = x.checkSecret(secret)
	}
	resource, hasDefault := strings.CutSuffix(form.Get("scope"), "/.default")
	if code != 0 {
		x.signInFailure(http.StatusUnauthorized, "invalid_client", code, text)
	} else if !hasDefault {
		x.signInFailure(http.StatusBadRequest, "invalid_scope", 1002012, "The provided value for scope is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).")
	} else if token, expires, ok := x.issue(resource); ok {
		x.respondToken(map[string]any{
			"token_type": "Bearer", "expires_in": expires, "ext_expires_in": expires, "access_token": token,
		})
	} else {
		x.unknownResource(resource)
	}
}

// managedIdentityToken serves GET /metadata/identity/oauth2/token, like the
// metadata service of a virtual machine (header Metadata) and the identity
// endpoint of an app service (header X-IDENTITY-HEADER).
func (x *exchange) managedIdentityToken() {
	if x.r.Header.Get("Metadata") != "true" && x.r.Header.Get("X-Identity-Header") == "" {
		x.response.json(http.StatusBadRequest, map[string]string{"error": "invalid_request", "error_description": "Required metadata header not specified"})
		return
	}
	query := x.r.URL.Query()
	if id := query.Get("client_id"); id != "" && id != x.options.ClientID {
		x.response.json(http.StatusBadRequest, map[string]string{"error": "invalid_request", "error_description": "Identity not found"})
		return
	}
	token, expires, ok := x.issue(query.Get("resource"))
	if !ok {
		x.unknownResource(query.Get("resource"))
		return
	}
	x.respondToken(map[string]any{
		"access_token": token,
		"client_id":    x.options.ClientID,
		"expires_in":   strconv.Itoa(expires),
		"expires_on":   strconv.FormatInt(time.Now().Unix()+int64(expires), 10),
		"not_before":   strconv.FormatInt(time.Now().Unix(), 10),
		"resource":     query.Get("resource"),
		"token_type":   "Bearer",
	})
}

func (x *exchange) unknownResource(resource string) {
	x.signInFailure(http.StatusBadRequest, "invalid_resource", 500011, fmt.Sprintf("The resource principal named %s was not found in the tenant. This can happen if the application has not been installed by the administrator of the tenant.", resource))
}

func (x *exchange) respondToken(token map[string]any) {
	x.response.w.Header().Set("Cache-Control", "no-store, no-cache")
	x.response.w.Header().Set("Pragma", "no-cache")
	x.response.json(http.StatusOK, token)
}

// checkSecret returns Entra's error code and message for a client secret. The
// code is 0 if the secret is valid.
func (t *Tenant) checkSecret(secret string) (int, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch expired, known := t.secrets[secret]; {
	case secret == "":
		return 7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
	case !known:
		return 7000215, fmt.Sprintf("Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '%s'.", t.options.ClientID)
	case expired:
		return 7000222, fmt.Sprintf("The provided client secret keys for app '%s' are expired. Visit the Azure portal to create new keys for your app.", t.options.ClientID)
	}
	return 0, ""
}

// checkAssertion returns Entra's error code and message for a client assertion.
// The code is 0 if it is a registered federated token, or a JWT signed with the
// key of a registered certificate.
func (x *exchange) checkAssertion(assertion string) (int, string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.assertions[assertion] {
		return 0, ""
	}
	if len(x.certificates) == 0 {
		return 700213, "No matching federated identity record found for presented assertion subject."
	}
	var c jwt.RegisteredClaims
	_, err := jwt.ParseWithClaims(assertion, &c, x.assertionKey,
		jwt.WithValidMethods([]string{"PS256"}), jwt.WithExpirationRequired(), jwt.WithLeeway(5*time.Minute))
	now := time.Now()
	switch {
	case errors.Is(err, jwt.ErrTokenExpired), errors.Is(err, jwt.ErrTokenNotValidYet):
		return 700024, "Client assertion is not within its valid time range."
	case errors.Is(err, jwt.ErrTokenMalformed):
		return 50027, "JWT token is invalid or malformed."
	case err != nil:
		return 700027, "Client assertion failed signature validation. The certificate with the thumbprint of the assertion is not registered, or the signature is not its key's."
	case len(c.Audience) != 1 || c.Audience[0] != x.origin()+x.r.URL.Path:
		return 700023, "Client assertion audience claim does not match Realm issuer."
	case c.Issuer != x.options.ClientID || c.Subject != x.options.ClientID:
		return 700021, "Client assertion application identifier does not match 'client_id' parameter."
	case c.ExpiresAt.Sub(now) > 24*time.Hour:
		return 700024, "Client assertion is not within its valid time range: it is good for too long."
	case c.ID == "":
		return 50027, "JWT token is invalid or malformed: it has no jti."
	}
	if _, used := x.usedIDs[c.ID]; used {
		return 50027, "JWT token is invalid: its jti was used before."
	}
	for id, expiry := range x.usedIDs {
		if expiry.Before(now) {
			delete(x.usedIDs, id)
		}
	}
	x.usedIDs[c.ID] = c.ExpiresAt.Add(5 * time.Minute)
	return 0, ""
}

// assertionKey returns the public key of the registered certificate that an
// assertion names.
func (t *Tenant) assertionKey(token *jwt.Token) (any, error) {
	thumbprint, _ := token.Header["x5t#S256"].(string)
	for _, c := range t.certificates {
		sum := sha256.Sum256(c.Raw)
		if base64.RawURLEncoding.EncodeToString(sum[:]) == thumbprint {
			return c.PublicKey, nil
		}
	}
	return nil, errors.New("unknown certificate")
}

// issue returns a token for a resource and its validity in seconds. It returns
// false for an unknown resource.
func (t *Tenant) issue(resource string) (token string, expires int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	audience, ok := resources[resource]
	if !ok || audience == GraphAudience && t.noGraphToken {
		return "", 0, false
	}
	now := time.Now()
	c := &claims{
		AppID: t.options.ClientID, TenantID: t.options.TenantID, Version: "1.0", Generation: t.generation,
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    "https://sts.windows.net/" + t.options.TenantID + "/",
			Subject:   t.options.ClientID,
			Audience:  jwt.ClaimStrings{resource},
			IssuedAt:  jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(t.options.TokenLifetime)),
		},
	}
	switch audience {
	case APIAudience:
		c.Roles = t.roles
	case GraphAudience:
		c.Roles = t.graphRoles
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(t.key)
	if err != nil {
		panic(err) // the claims and the key are always valid
	}
	return token, int(t.options.TokenLifetime / time.Second), true
}

// bearer returns the claims of a request's token, also if it is expired or
// revoked.
func (t *Tenant) bearer(r *http.Request) (*claims, error) {
	scheme, text, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return nil, errors.New("no bearer token")
	}
	var c claims
	_, err := jwt.ParseWithClaims(text, &c, func(*jwt.Token) (any, error) { return t.key, nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithoutClaimsValidation())
	if err != nil {
		return nil, errors.New("not a token of this tenant")
	}
	return &c, nil
}

// verify returns the claims of a request's token if it is valid.
func (t *Tenant) verify(r *http.Request) (*claims, error) {
	c, err := t.bearer(r)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	generation := t.generation
	t.mu.Unlock()
	switch {
	case !time.Now().Before(c.ExpiresAt.Time):
		return nil, errors.New("expired")
	case c.Generation != generation:
		return nil, errors.New("revoked")
	}
	return c, nil
}

// audienceOf returns the audience of a request's token, valid or not.
func (t *Tenant) audienceOf(r *http.Request) string {
	c, err := t.bearer(r)
	if err != nil {
		return ""
	}
	return c.resource()
}

// signInError responds with the error that usually has this status.
func (x *exchange) signInError(status int) {
	switch {
	case status == http.StatusUnauthorized:
		code, text := x.checkSecret("another secret")
		x.signInFailure(status, "invalid_client", code, text)
	case status == http.StatusTooManyRequests:
		x.signInFailure(status, "temporarily_unavailable", 90055, "There are too many incoming requests.")
	case status >= 500:
		x.signInFailure(status, "temporarily_unavailable", 90033, "A transient error has occurred. Please try again.")
	default:
		x.signInFailure(status, "invalid_request", 90014, "A required field is missing from the request.")
	}
}

// signInFailure responds with an error in Entra's format.
func (x *exchange) signInFailure(status int, name string, code int, text string) {
	trace, correlation, now := correlationID(x.call.Number), correlationID(-x.call.Number), time.Now().UTC().Format("2006-01-02 15:04:05Z")
	x.response.json(status, map[string]any{
		"error":             name,
		"error_description": fmt.Sprintf("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s", code, text, trace, correlation, now),
		"error_codes":       []int{code},
		"timestamp":         now,
		"trace_id":          trace,
		"correlation_id":    correlation,
		"error_uri":         fmt.Sprintf("https://login.microsoftonline.com/error?code=%d", code),
	})
}
