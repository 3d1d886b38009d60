package client

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A Client speaks to the APIs of one tenant. Its methods may be called
// concurrently; all of them share the tenant's quota and tokens.
type Client struct {
	http      *http.Client
	timeout   time.Duration
	userAgent string
	observer  Observer
	graph     *service
	api       *service
	gates     map[API]*gate
	secrets   *redactor
}

// New checks the options and returns a Client. It makes no call.
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
	held := &throttle{}
	if p := o.Predecessor; p != nil && sameOrigin(p.api.tokens.signIn.login, o.LoginURL) {
		held = p.api.tokens.throttle
	}
	c := &Client{
		http:      h,
		timeout:   o.RequestTimeout,
		userAgent: o.UserAgent,
		observer:  o.Observer,
		graph:     &service{url: o.GraphURL, tokens: newTokens(o, o.GraphScope, h, held, secrets)},
		api:       &service{url: o.APIURL, tokens: newTokens(o, o.APIScope, h, held, secrets)},
		gates:     make(map[API]*gate),
		secrets:   secrets,
	}
	c.graph.tokens.expires = c.api.tokens.expires // One credential serves both.
	for _, api := range []API{MachineSecurityStates, Machines, DeviceAVInfo, DomainMachines, DomainStats} {
		if o.Predecessor != nil {
			c.gates[api] = o.Predecessor.gates[api]
			c.gates[api].setLimits(o.Quota.of(api))
			continue
		}
		c.gates[api] = newGate(api, o.Quota.of(api), o.Ledger, o.Observer)
	}
	return c, nil
}

// Quota tells how much of the quota of one API is spent at this moment.
func (c *Client) Quota(api API) QuotaUse {
	g, ok := c.gates[api]
	if !ok {
		return QuotaUse{}
	}
	return g.use()
}

// Close closes connections that are idle. Calls under way are ended by their
// contexts.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// check names the first option that is missing or would send a token where it
// can be read.
func (o Options) check() error {
	for _, endpoint := range []struct {
		name string
		url  *url.URL
	}{{"login URL", o.LoginURL}, {"Graph URL", o.GraphURL}, {"API URL", o.APIURL}} {
		if err := checkEndpoint(endpoint.url); err != nil {
			return fmt.Errorf("%s: %w", endpoint.name, err)
		}
	}
	switch {
	case o.GraphScope == "":
		return errors.New("the Graph scope is missing")
	case o.APIScope == "":
		return errors.New("the API scope is missing")
	case o.Credential == nil:
		return errors.New("the credential is missing")
	}
	return nil
}

// checkEndpoint allows https, and plain http to this very machine only.
func checkEndpoint(u *url.URL) error {
	switch {
	case u == nil:
		return errors.New("missing")
	case u.Hostname() == "":
		return errors.New("no host")
	case u.User != nil:
		return errors.New("user information does not belong in an endpoint")
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return errors.New("plain http is for loopback addresses only")
	default:
		return fmt.Errorf("scheme %q is not https", u.Scheme)
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

func (o Options) withDefaults() Options {
	if o.Transport == nil {
		o.Transport = http.DefaultTransport.(*http.Transport).Clone()
	}
	if o.RequestTimeout <= 0 {
		o.RequestTimeout = time.Minute
	}
	if o.Quota.CallsPerMinute <= 0 {
		o.Quota.CallsPerMinute = 100
	}
	if o.Quota.CallsPerHour <= 0 {
		o.Quota.CallsPerHour = 1500
	}
	if o.Observer == nil {
		o.Observer = nobody{}
	}
	if o.UserAgent == "" {
		o.UserAgent = "mde_exporter"
	}
	return o
}

// nobody is the Observer of a Client that has none.
type nobody struct{}

func (nobody) Call(API, string, time.Duration) {}
func (nobody) QuotaWait(API, time.Duration)    {}
