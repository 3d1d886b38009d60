package client

import (
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// A Client speaks to the APIs of one tenant. Its methods may be called
// concurrently; all of them share the tenant's quota and tokens.
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
	rows       sync.Map // From API to int: the rows of its list when it was last read.

	joining sync.Once
	part    atomic.Pointer[part] // Nil until the client takes part in its quotas.
}

// A service is a host and the audience whose tokens it takes. No token of it is
// ever sent anywhere else.
type service struct {
	url    *url.URL
	tokens *tokens
}

// New checks the options and returns a Client. It makes no call and changes
// nothing: the client's limits hold when it takes part in the quota.
func New(o Options) (*Client, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	h := &http.Client{
		Transport: o.Transport,
		// A redirect is an answer like any other: following one would carry the
		// token along.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	secrets := &redactor{}
	for i, secret := range o.Secrets {
		secrets.learn(fmt.Sprint("option ", i), secret)
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
	c.graph.tokens.expires = c.api.tokens.expires // One credential serves both.
	return c, nil
}

// TakePart makes the client one of those that share its quotas, until Close: from
// now on its limits hold for all of them. It may read a Ledger. The first call
// takes part by itself.
func (c *Client) TakePart() { c.takePart() }

func (c *Client) takePart() *part {
	c.joining.Do(func() {
		p := c.quotas.join(c)
		// No token was asked for yet: every call comes through here first.
		c.graph.tokens.throttle, c.api.tokens.throttle = p.signIn, p.signIn
		c.part.Store(p)
	})
	return c.part.Load()
}

// share is the client's part in the gate of an API.
func (c *Client) share(api API) *share { return c.takePart().shares[api] }

// Quota returns how much of the quota of one API is spent at this moment. Before
// the client takes part in the quota only its limits are known.
func (c *Client) Quota(api API) QuotaUse {
	p := c.part.Load()
	switch {
	case p == nil:
		return QuotaUse{Limits: c.limits.of(api)}
	case p.shares[api] == nil:
		return QuotaUse{}
	default:
		return p.shares[api].use()
	}
}

// QuotaKey returns by what the service counts the client's calls to an API.
func (c *Client) QuotaKey(api API) QuotaKey {
	return newQuotaKey(c.credential, c.serviceOf(api).url)
}

// HoldsSecret reports whether a name that an API sent repeats a token or another
// secret of the client, in whatever encoding. Such a name must not be exposed.
func (c *Client) HoldsSecret(name string) bool { return c.secrets.holdsSecret(name) }

// Close leaves the quota and closes connections that are idle. Calls under way
// are ended by their contexts.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
	if p := c.part.Load(); p != nil {
		c.quotas.leave(p)
	}
}
