package client

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// MaskURL returns the URL with its possible secrets masked: the password, or a user name
// without a password, the query and the fragment. A text that is not a URL is masked
// completely.
func MaskURL(text string) string {
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return maskedSecret
	}
	masked := ""
	if u.Scheme != "" {
		masked = u.Scheme + ":"
	}
	if masked += "//"; u.User != nil {
		if _, ok := u.User.Password(); ok {
			masked += url.User(u.User.Username()).String() + ":"
		}
		masked += maskedSecret + "@"
	}
	masked += u.Host + u.EscapedPath()
	if u.RawQuery != "" {
		masked += "?" + maskedSecret
	}
	if u.Fragment != "" {
		masked += "#" + maskedSecret
	}
	return masked
}

// URLSecrets returns the parts of the URL that MaskURL masks, for Options.Secrets.
func URLSecrets(u *url.URL) []string {
	var secrets []string
	if u.User != nil {
		if password, ok := u.User.Password(); ok {
			secrets = append(secrets, password)
		} else {
			secrets = append(secrets, u.User.Username())
		}
	}
	for _, values := range u.Query() {
		secrets = append(secrets, values...)
	}
	if u.Fragment != "" {
		secrets = append(secrets, u.Fragment)
	}
	return secrets
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
