package client

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// A service is a host and the audience whose tokens it takes. No token of it is
// ever sent anywhere else.
type service struct {
	url    *url.URL
	tokens *tokens
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
