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
	// LoginURL, GraphURL and APIURL are the origins of the sign-in host, of Microsoft
	// Graph and of the Defender API. A token is never sent to another origin. All three
	// are required.
	LoginURL, GraphURL, APIURL *url.URL
	// GraphScope and APIScope name the audiences of the two tokens, as in
	// "https://graph.microsoft.com/.default". Both are required.
	GraphScope, APIScope string
	// Credential is required.
	Credential Credential
	// Secrets are the secrets of the Transport, such as the password of a proxy. Like the
	// credential and its tokens they are masked in every error. URLSecrets returns those
	// of a URL.
	Secrets []string
	// Transport carries every call. Nil means a clone of http.DefaultTransport.
	Transport http.RoundTripper
	// RequestTimeout limits one HTTP call, including its body. Zero means a minute.
	RequestTimeout time.Duration
	// Quota limits the calls to each API. Zero fields mean 100 and 1500.
	Quota Limits
	// Quotas count the calls. Clients with the same Quotas share the quota of their app
	// registration, tenant and host. Nil means that the client shares it with no other.
	Quotas *Quotas
	// Observer observes every HTTP call. Nil means none.
	Observer Observer
	// UserAgent is sent with every call. Empty means "mde_exporter".
	UserAgent string
}

// Limits are the maximum numbers of calls to one API by one app registration, tenant and
// host, in any span of 60 seconds and of 3600 seconds. If an API documents lower limits,
// those apply.
type Limits struct {
	CallsPerMinute, CallsPerHour int
}

// smaller returns the smaller one of each limit.
func (l Limits) smaller(o Limits) Limits {
	return Limits{min(l.CallsPerMinute, o.CallsPerMinute), min(l.CallsPerHour, o.CallsPerHour)}
}

// Ledger stores the times of the calls of one quota across restarts. Its methods may be
// called concurrently.
type Ledger interface {
	// Spent returns the times of the calls of the last hour, oldest first.
	Spent(api API) []time.Time
	// Spend records a call before it is sent. An implementation that cannot write
	// reports that itself.
	Spend(api API, at time.Time)
}

// Observer observes HTTP calls and waits, for metrics. Its methods may be
// called concurrently and must not block.
type Observer interface {
	// Call reports one finished HTTP call; each retry is a call. The code is the status
	// or "error". The duration includes the body.
	Call(api API, code string, duration time.Duration)
	// QuotaWait reports how long a call waited for quota or because of Retry-After.
	QuotaWait(api API, wait time.Duration)
}

// check returns an error for the first option that is missing or that would send a token
// unencrypted.
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

// checkEndpoint rejects all URLs except https, and plain http to a loopback address.
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

// IsLoopback reports whether a host is localhost or a loopback address.
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
	o.Observer = cmp.Or[Observer](o.Observer, noObserver{})
	o.UserAgent = cmp.Or(o.UserAgent, "mde_exporter")
	return o
}

// noObserver is the Observer of a Client without one.
type noObserver struct{}

func (noObserver) Call(API, string, time.Duration) {}
func (noObserver) QuotaWait(API, time.Duration)    {}
