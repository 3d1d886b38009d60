package client

import (
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// A Client calls the APIs of one tenant. Its methods may be called concurrently and share
// the tenant's quota and tokens.
type Client struct {
	http       *http.Client
	timeout    time.Duration
	userAgent  string
	observer   Observer
	credential Credential
	graph      *service
	api        *service
	limits     Limits
	quotas     *Quotas
	secrets    *redactor
	rows       sync.Map // From API to int: the number of rows when its list was last read.

	joinOnce   sync.Once
	membership atomic.Pointer[membership] // Nil until JoinQuotas.
}

// A service is a host and the tokens that it accepts. Its tokens are never sent to
// another host.
type service struct {
	url    *url.URL
	tokens *tokens
}

// New checks the options and returns a Client. It makes no call and has no side effects.
// The client's limits count from JoinQuotas on.
func New(o Options) (*Client, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	h := &http.Client{
		Transport: o.Transport,
		// Following a redirect would send the token to its target.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	secrets := &redactor{}
	for i, secret := range o.Secrets {
		secrets.add(fmt.Sprint("option ", i), secret)
	}
	c := &Client{
		http:       h,
		timeout:    o.RequestTimeout,
		userAgent:  o.UserAgent,
		observer:   o.Observer,
		credential: o.Credential,
		graph:      &service{url: o.GraphURL, tokens: newTokens(o, o.GraphScope, nil, secrets)},
		api:        &service{url: o.APIURL, tokens: newTokens(o, o.APIScope, nil, secrets)},
		limits:     o.Quota,
		quotas:     o.Quotas,
		secrets:    secrets,
	}
	c.graph.tokens.expires = c.api.tokens.expires // Both use the same credential.
	return c, nil
}

// JoinQuotas adds the client to the clients that share its quotas, until Close. From
// then on its limits apply to all of them. It may read a Ledger. The first API call
// joins as well.
func (c *Client) JoinQuotas() { c.joinQuotas() }

func (c *Client) joinQuotas() *membership {
	c.joinOnce.Do(func() {
		p := c.quotas.join(c)
		// No token request is in progress yet: every call joins first.
		c.graph.tokens.throttle, c.api.tokens.throttle = p.signIn, p.signIn
		c.membership.Store(p)
	})
	return c.membership.Load()
}

// share returns the client's share of the gate of an API.
func (c *Client) share(api API) *share { return c.joinQuotas().shares[api] }

// Quota returns how much of the quota of one API is spent now. Before JoinQuotas only its
// Limits are set.
func (c *Client) Quota(api API) QuotaUse {
	p := c.membership.Load()
	switch {
	case p == nil:
		return QuotaUse{Limits: c.limits.of(api)}
	case p.shares[api] == nil:
		return QuotaUse{}
	default:
		return p.shares[api].use()
	}
}

// QuotaKey returns the key by which the service counts the client's calls to an API.
func (c *Client) QuotaKey(api API) QuotaKey {
	return newQuotaKey(c.credential, c.serviceOf(api).url)
}

// ContainsSecret reports whether a name from an API contains a token or another secret
// of the client, in any encoding. Such a name must not be exposed.
func (c *Client) ContainsSecret(name string) bool { return c.secrets.containsSecret(name) }

// Close leaves the quotas and closes idle connections. Calls in progress end with their
// contexts.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
	if p := c.membership.Load(); p != nil {
		c.quotas.leave(p)
	}
}
