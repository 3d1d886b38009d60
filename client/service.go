package client

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// A service is a host and the audience whose tokens it takes. No token of it is
// ever sent anywhere else.
type service struct {
	url    *url.URL
	tokens *tokens
	// refused is when the service last refused a token that had just been got, in
	// Unix nanoseconds.
	refused atomic.Int64
}

// freshTokenPause is how long after the refusal of a fresh token no other is
// asked for, and how old a token is at least before a 403 makes another one worth
// asking for: a service that refuses them all must not cost a token request for
// every call.
const freshTokenPause = 5 * time.Minute

// mayRenew reports whether a new token may help where one was refused.
func (s *service) mayRenew() bool {
	return time.Since(time.Unix(0, s.refused.Load())) > freshTokenPause
}

// sameOrigin reports whether two URLs have the same scheme, host and port.
func sameOrigin(a, b *url.URL) bool { return a.User == nil && origin(a) == origin(b) }

func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return fmt.Sprintf("%s://%s", u.Scheme, net.JoinHostPort(strings.ToLower(u.Hostname()), port))
}
