package client

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Options configure the Client of one tenant.
type Options struct {
	// LoginURL, GraphURL and APIURL are the origins of the sign-in host, of
	// Microsoft Graph and of the Defender API. A token for one is never sent to
	// another host, scheme or port. All three are required.
	LoginURL, GraphURL, APIURL *url.URL
	// GraphScope and APIScope name the audiences of the two tokens, as in
	// "https://graph.microsoft.com/.default". Both are required.
	GraphScope, APIScope string
	// Credential is required.
	Credential Credential
	// Secrets are those of the Transport, such as the password of a proxy. Like the
	// credential and its tokens they are masked in every error. URLSecrets finds
	// those of a URL.
	Secrets []string
	// Transport carries every call. Nil means a clone of http.DefaultTransport.
	Transport http.RoundTripper
	// RequestTimeout bounds one HTTP call, its body included. Zero means a minute.
	RequestTimeout time.Duration
	// Quota is what may be spent on each API. Zero fields mean 100 and 1500.
	Quota Limits
	// Quotas count the calls. Clients that are given the same one share the quota
	// of their app registration, tenant and host. Nil means a count of its own.
	Quotas *Quotas
	// Observer observes every HTTP call. Nil means none.
	Observer Observer
	// UserAgent is sent with every call. Empty means "mde_exporter".
	UserAgent string
}

// Limits bound the calls to one API of one app registration, tenant and host: no span of 60 seconds holds
// more than CallsPerMinute of them, no span of 3600 seconds more than
// CallsPerHour. Where an API's documented limits are lower, those hold.
type Limits struct {
	CallsPerMinute, CallsPerHour int
}

// and returns, of each limit, the smaller one.
func (l Limits) and(o Limits) Limits {
	return Limits{min(l.CallsPerMinute, o.CallsPerMinute), min(l.CallsPerHour, o.CallsPerHour)}
}

// Ledger keeps the times of the past calls of one quota where a restart does not
// lose them.
// Its methods may be called concurrently.
type Ledger interface {
	// Spent returns when the calls of the last hour left, oldest first.
	Spent(api API) []time.Time
	// Spend notes a call before it leaves. It does not fail: an implementation
	// that cannot write keeps what it can and says so itself.
	Spend(api API, at time.Time)
}

// Observer observes HTTP calls and waits, for metrics. Its methods may be
// called concurrently and must not block.
type Observer interface {
	// Call reports one finished HTTP call, retries being calls of their own.
	// The code is the status or "error"; the duration includes the body.
	Call(api API, code string, duration time.Duration)
	// QuotaWait reports how long a call waited for quota or for Retry-After.
	QuotaWait(api API, wait time.Duration)
}

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
	case u.Scheme == "https", u.Scheme == "http" && IsLoopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return errors.New("plain http is for loopback addresses only")
	default:
		return fmt.Errorf("scheme %q is not https", u.Scheme)
	}
}

// IsLoopback reports whether a host is this very machine.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

func (o Options) withDefaults() Options {
	if o.Transport == nil {
		o.Transport = http.DefaultTransport.(*http.Transport).Clone()
	}
	o.RequestTimeout = cmp.Or(max(o.RequestTimeout, 0), time.Minute)
	o.Quota.CallsPerMinute = cmp.Or(max(o.Quota.CallsPerMinute, 0), 100)
	o.Quota.CallsPerHour = cmp.Or(max(o.Quota.CallsPerHour, 0), 1500)
	o.Quotas = cmp.Or(o.Quotas, NewQuotas(nil))
	o.Observer = cmp.Or[Observer](o.Observer, nobody{})
	o.UserAgent = cmp.Or(o.UserAgent, "mde_exporter")
	return o
}

// nobody is the Observer of a Client that has none.
type nobody struct{}

func (nobody) Call(API, string, time.Duration) {}
func (nobody) QuotaWait(API, time.Duration)    {}
