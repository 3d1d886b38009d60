package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// instanceMetadata is where Azure's virtual machines get the tokens of their identity:
// https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
const instanceMetadata = "http://169.254.169.254/metadata/identity/oauth2/token"

// prove has nothing to read: the machine itself is the credential.
func (c ManagedIdentity) prove(_ context.Context, s signIn) (proof, error) {
	endpoint, err := c.endpoint()
	if err != nil {
		return proof{}, err
	}
	s.learn("identity header", c.Header)
	for i, secret := range URLSecrets(endpoint) {
		s.learn(fmt.Sprint("identity endpoint ", i), secret)
	}
	request := c.request(endpoint, strings.TrimSuffix(s.scope, "/.default"))
	return proof{
		fingerprint: fingerprint(endpoint.String(), c.Header, c.ClientID),
		exchange: func(ctx context.Context) (*oauth2.Token, error) {
			return c.exchange(request.WithContext(ctx), s)
		},
	}, nil
}

// endpoint returns the address tokens are got from, if a token may travel there.
func (c ManagedIdentity) endpoint() (*url.URL, error) {
	address := c.Endpoint
	if address == "" {
		address = instanceMetadata
	}
	endpoint, err := url.Parse(address)
	if err != nil || endpoint.Host == "" {
		return nil, fmt.Errorf("managed_identity: IDENTITY_ENDPOINT is not an address: %q", MaskURL(address))
	}
	if endpoint.Scheme != "https" && (endpoint.Scheme != "http" || !staysOnMachine(endpoint.Hostname())) {
		return nil, fmt.Errorf("managed_identity: %s: plain http is accepted to a loopback or link-local address only", MaskURL(address))
	}
	return endpoint, nil
}

// staysOnMachine reports whether a packet to the host never passes a router.
func staysOnMachine(host string) bool {
	address, err := netip.ParseAddr(host)
	return isLoopback(host) || err == nil && address.IsLinkLocalUnicast()
}

// request returns the request for a token of the resource.
func (c ManagedIdentity) request(endpoint *url.URL, resource string) *http.Request {
	address := *endpoint
	query := address.Query()
	query.Set("resource", resource)
	if c.ClientID != "" {
		query.Set("client_id", c.ClientID)
	}
	request := &http.Request{Method: http.MethodGet, URL: &address, Header: http.Header{}}
	if c.Header != "" {
		query.Set("api-version", "2019-08-01")
		request.Header.Set("X-IDENTITY-HEADER", c.Header)
	} else {
		query.Set("api-version", "2018-02-01")
		request.Header.Set("Metadata", "true")
	}
	address.RawQuery = query.Encode()
	return request
}

// exchange makes the request and reads its answer.
func (c ManagedIdentity) exchange(request *http.Request, s signIn) (*oauth2.Token, error) {
	response, err := s.client.Do(request)
	if err != nil {
		e := tokenError(err, s.scope)
		if e.Reason == ReasonNetwork || e.Reason == ReasonTimeout {
			e.explain("managed_identity works on Azure machines and services that have an identity only")
		}
		return nil, e
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, tokenError(err, s.scope)
	}
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		// The service answers so while it starts or is updated.
		return nil, &Error{API: Token, Reason: ReasonServer, Status: response.StatusCode, Message: "the identity endpoint is not ready"}
	default:
		e := answerError(response, body, s.scope)
		if e.Reason == ReasonAuth && e.advice == "" {
			e.explain("the identity endpoint gives no token: check that an identity is assigned to this machine, and managed_identity.client_id")
		}
		return nil, e
	}
	token, err := parseIdentityToken(body, time.Now())
	if err != nil {
		return nil, err
	}
	return token, checkToken(token, time.Now())
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

// identityPauses are the pauses between attempts that Microsoft asks for.
var identityPauses = []time.Duration{2 * time.Second, 6 * time.Second, 14 * time.Second, 30 * time.Second}

// retryIdentity repeats an attempt that the identity endpoint, rather than the
// network, put off.
func retryIdentity(ctx context.Context, attempt func(context.Context) error) error {
	for _, pause := range identityPauses {
		err := attempt(ctx)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Reason != ReasonServer && e.Reason != ReasonThrottled {
			return err
		}
		pause = max(pause, e.RetryAfter)
		if deadline, bounded := retryDeadline(ctx); bounded && pause > time.Until(deadline) || sleep(ctx, pause) != nil {
			return err
		}
	}
	return attempt(ctx)
}
