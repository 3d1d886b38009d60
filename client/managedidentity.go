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

// ManagedIdentity is the identity of the machine or Azure service that the process runs
// on: a virtual machine, App Service, Container Apps, Container Instances, or a server
// that Azure Arc manages.
type ManagedIdentity struct {
	// ClientID is that of a user-assigned identity. Empty means the system-assigned one.
	ClientID string
	// Endpoint, Header and IMDSEndpoint are the values of IDENTITY_ENDPOINT,
	// IDENTITY_HEADER and IMDS_ENDPOINT, which Azure's platforms set. All are empty on a
	// virtual machine. A plain http Endpoint must have a loopback or link-local address.
	Endpoint, Header, IMDSEndpoint string

	// arcTokens is the directory of Azure Arc's keys. Empty means the agent's default.
	arcTokens string
}

func (c ManagedIdentity) app() (tenantID, clientID string) {
	return "managed-identity", cmp.Or(c.ClientID, "system-assigned")
}

// instanceMetadata is the token endpoint of Azure's virtual machines:
// https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
const instanceMetadata = "http://169.254.169.254/metadata/identity/oauth2/token"

// An identityHost is a platform's token endpoint and the parameters of its requests.
type identityHost struct {
	address string
	version string // The api-version.
	// header and value prove that the request comes from this machine.
	header, value string
	// arc is set for the agent of Azure Arc, which also requires a key.
	arc bool
}

// host returns the token endpoint of the platform, which it detects by the environment
// variables. Azure Container Instances set IDENTITY_HEADER only and use the metadata
// service of virtual machines.
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

// load implements Credential. It reads no file.
func (c ManagedIdentity) load(_ context.Context, s signIn) (loadedCredential, error) {
	host := c.host()
	if host.arc && c.ClientID != "" {
		return loadedCredential{}, errors.New("managed_identity: Azure Arc has no user-assigned identities: remove client_id")
	}
	endpoint, err := host.endpoint()
	if err != nil {
		return loadedCredential{}, err
	}
	s.addSecret("identity header", c.Header)
	for i, secret := range URLSecrets(endpoint) {
		s.addSecret(fmt.Sprint("identity endpoint ", i), secret)
	}
	request := c.request(host, endpoint, strings.TrimSuffix(s.scope, "/.default"))
	return loadedCredential{
		fingerprint: fingerprint(endpoint.String(), host.version, host.value, c.ClientID),
		requestToken: func(ctx context.Context) (*oauth2.Token, error) {
			return c.requestToken(request.WithContext(ctx), host, s)
		},
	}, nil
}

// endpoint parses the address and rejects plain http across a network.
func (h identityHost) endpoint() (*url.URL, error) {
	endpoint, err := url.Parse(h.address)
	if err != nil || endpoint.Host == "" {
		return nil, fmt.Errorf("managed_identity: IDENTITY_ENDPOINT is not an address: %q", MaskURL(h.address))
	}
	if endpoint.Scheme != "https" && (endpoint.Scheme != "http" || !isLocal(endpoint.Hostname())) {
		return nil, fmt.Errorf("managed_identity: IDENTITY_ENDPOINT %s: plain http is accepted to a loopback or link-local address only", MaskURL(h.address))
	}
	return endpoint, nil
}

// isLocal reports whether the host is a loopback or link-local address.
func isLocal(host string) bool {
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

// requestToken makes the request and returns the token. The agent of Azure Arc first
// responds with the path of a key file, which only privileged users can read, and returns
// the token to a second request that contains the key.
func (c ManagedIdentity) requestToken(request *http.Request, host identityHost, s signIn) (*oauth2.Token, error) {
	token, response, e := s.identityToken(request) //nolint:bodyclose // send has closed it.
	if host.arc && e != nil && e.Status == http.StatusUnauthorized {
		key, err := c.arcKey(request.Context(), response.Header)
		if err != nil {
			return nil, arcError(&Error{API: Token, Reason: ReasonAuth, Message: "get the agent's key", Err: err})
		}
		s.addSecret("Azure Arc key", key)
		request = request.Clone(request.Context())
		request.Header.Set("Authorization", "Basic "+key)
		token, _, e = s.identityToken(request) //nolint:bodyclose // As above.
	}
	if e == nil {
		return token, nil
	}
	if e.Status == http.StatusNotFound || e.Status == http.StatusGone {
		// The service returns this while it starts or is updated.
		e = &Error{API: Token, Reason: ReasonServer, Status: e.Status, Message: "the identity endpoint is not ready"}
	}
	e.permanent = e.Reason == ReasonNetwork || e.Reason == ReasonTimeout // The endpoint is on this machine, or missing.
	switch {
	case host.arc:
		return nil, arcError(e)
	case e.permanent:
		e.advice = "managed_identity works only on Azure machines and services that have an identity"
	case e.Reason == ReasonAuth && e.advice == "":
		e.advice = "the identity endpoint returns no token: check that an identity is assigned to this machine, and managed_identity.client_id"
	}
	return nil, e
}

// identityToken requests a token from an identity endpoint. A status other than 200 is an
// error. The response is that of send.
func (s signIn) identityToken(request *http.Request) (token *oauth2.Token, response *http.Response, e *Error) {
	response, parsed, e := s.send(request)
	if e == nil && response.StatusCode != http.StatusOK {
		e = tokenRequestError(response, parsed, s.scope)
	}
	if e == nil {
		token, e = parsed.token(time.Now())
	}
	return token, response, e
}

// newIdentityTransport returns a transport for a local endpoint: no proxy, a short
// timeout, and no idle connections, because a token lasts for hours.
func newIdentityTransport() http.RoundTripper {
	return &http.Transport{
		DialContext:       (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		DisableKeepAlives: true,
	}
}
