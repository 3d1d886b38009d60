package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// ManagedIdentity is the identity of the machine or Azure service this process
// runs on: a virtual machine, App Service, Container Apps, Container Instances, or
// a server that Azure Arc manages.
type ManagedIdentity struct {
	// ClientID names a user-assigned identity; empty means the system-assigned one.
	ClientID string
	// Endpoint, Header and IMDSEndpoint are the values of IDENTITY_ENDPOINT,
	// IDENTITY_HEADER and IMDS_ENDPOINT, by which Azure's platforms say where and
	// how they give tokens. All are empty on a virtual machine. A plain http
	// Endpoint is accepted with a loopback or link-local address only.
	Endpoint, Header, IMDSEndpoint string

	// arcTokens is the directory of Azure Arc's keys. Empty means the agent's own.
	arcTokens string
}

func (c ManagedIdentity) app() (tenantID, clientID string) {
	return "managed-identity", cmp.Or(c.ClientID, "system-assigned")
}

// instanceMetadata is where Azure's virtual machines get the tokens of their identity:
// https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
const instanceMetadata = "http://169.254.169.254/metadata/identity/oauth2/token"

// An identityHost is where a platform gives tokens, and how it is asked.
type identityHost struct {
	address string
	version string // The api-version.
	// header and value show that the request comes from this machine.
	header, value string
	// arc is set for the agent of Azure Arc, which asks for a key as well.
	arc bool
}

// host finds the platform by what it puts into the environment. Azure Container
// Instances set IDENTITY_HEADER alone, and have the metadata service of a virtual
// machine.
func (c ManagedIdentity) host() identityHost {
	h := identityHost{address: cmp.Or(c.Endpoint, instanceMetadata), version: "2018-02-01", header: "Metadata", value: "true"}
	switch {
	case c.Endpoint == "":
	case c.Header != "": // App Service, Container Apps.
		h.version, h.header, h.value = "2019-08-01", "X-IDENTITY-HEADER", c.Header
	case c.IMDSEndpoint != "":
		h.version, h.arc = arcVersion, true
	}
	return h
}

// prove has nothing to read: the machine itself is the credential.
func (c ManagedIdentity) prove(_ context.Context, s signIn) (proof, error) {
	host := c.host()
	if host.arc && c.ClientID != "" {
		return proof{}, errors.New("managed_identity: Azure Arc has no user-assigned identities: remove client_id")
	}
	endpoint, err := host.endpoint()
	if err != nil {
		return proof{}, err
	}
	s.learn("identity header", c.Header)
	for i, secret := range URLSecrets(endpoint) {
		s.learn(fmt.Sprint("identity endpoint ", i), secret)
	}
	request := c.request(host, endpoint, strings.TrimSuffix(s.scope, "/.default"))
	return proof{
		fingerprint: fingerprint(endpoint.String(), host.version, host.value, c.ClientID),
		exchange: func(ctx context.Context) (*oauth2.Token, error) {
			return c.exchange(request.WithContext(ctx), host, s)
		},
	}, nil
}

// endpoint returns the address tokens are got from, if a token may travel there.
func (h identityHost) endpoint() (*url.URL, error) {
	endpoint, err := url.Parse(h.address)
	if err != nil || endpoint.Host == "" {
		return nil, fmt.Errorf("managed_identity: IDENTITY_ENDPOINT is not an address: %q", MaskURL(h.address))
	}
	if endpoint.Scheme != "https" && (endpoint.Scheme != "http" || !staysOnMachine(endpoint.Hostname())) {
		return nil, fmt.Errorf("managed_identity: IDENTITY_ENDPOINT %s: plain http is accepted to a loopback or link-local address only", MaskURL(h.address))
	}
	return endpoint, nil
}

// staysOnMachine reports whether a packet to the host never passes a router.
func staysOnMachine(host string) bool {
	address, err := netip.ParseAddr(host)
	return IsLoopback(host) || err == nil && address.IsLinkLocalUnicast()
}

// request returns the request for a token of the resource.
func (c ManagedIdentity) request(host identityHost, endpoint *url.URL, resource string) *http.Request {
	address := *endpoint
	query := address.Query()
	query.Set("api-version", host.version)
	query.Set("resource", resource)
	if c.ClientID != "" {
		query.Set("client_id", c.ClientID)
	}
	address.RawQuery = query.Encode()
	request := &http.Request{Method: http.MethodGet, URL: &address, Header: http.Header{}}
	request.Header.Set(host.header, host.value)
	if user := endpoint.User; user != nil {
		password, _ := user.Password()
		request.SetBasicAuth(user.Username(), password)
	}
	return request
}

// exchange makes the request and reads its answer. The agent of Azure Arc answers at
// first by naming a file that only privileged users of the machine can read, and
// gives the token to who shows its content.
func (c ManagedIdentity) exchange(request *http.Request, host identityHost, s signIn) (*oauth2.Token, error) {
	token, response, e := s.identityToken(request) //nolint:bodyclose // ask has closed it.
	if host.arc && e != nil && e.Status == http.StatusUnauthorized {
		key, err := c.arcKey(request.Context(), response.Header)
		if err != nil {
			return nil, arcError(&Error{API: Token, Reason: ReasonAuth, Message: "get the agent's key", Err: err})
		}
		s.learn("Azure Arc key", key)
		request = request.Clone(request.Context())
		request.Header.Set("Authorization", "Basic "+key)
		token, _, e = s.identityToken(request) //nolint:bodyclose // As above.
	}
	if e == nil {
		return token, nil
	}
	if e.Status == http.StatusNotFound || e.Status == http.StatusGone {
		// The service answers so while it starts or is updated.
		e = &Error{API: Token, Reason: ReasonServer, Status: e.Status, Message: "the identity endpoint is not ready"}
	}
	e.final = e.Reason == ReasonNetwork || e.Reason == ReasonTimeout // It is beside this machine, or missing.
	switch {
	case host.arc:
		return nil, arcError(e)
	case e.final:
		e.advice = "managed_identity works on Azure machines and services that have an identity only"
	case e.Reason == ReasonAuth && e.advice == "":
		e.advice = "the identity endpoint gives no token: check that an identity is assigned to this machine, and managed_identity.client_id"
	}
	return nil, e
}

// identityToken asks an identity endpoint for a token, which gives one with status 200
// only. The response is that of ask.
func (s signIn) identityToken(request *http.Request) (token *oauth2.Token, response *http.Response, e *Error) {
	response, answer, e := s.ask(request)
	if e == nil && response.StatusCode != http.StatusOK {
		e = answerError(response, answer, s.scope)
	}
	if e == nil {
		token, e = answer.token(time.Now())
	}
	return token, response, e
}

// newIdentityTransport returns a transport for an endpoint beside this
// machine: no proxy, no patience, and no idle connections since a token lasts
// for hours.
func newIdentityTransport() http.RoundTripper {
	return &http.Transport{
		DialContext:       (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		DisableKeepAlives: true,
	}
}
