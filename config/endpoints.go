package config

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	promconfig "github.com/prometheus/common/config"
	"golang.org/x/net/http/httpproxy"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/internal/readfile"
)

// endpoints validates the section and sets missing endpoints to those of the cloud.
func (v *validator) endpoints(at position, e *Endpoints, cloudName string) {
	of, _ := cloudNamed(cloudName)
	for _, endpoint := range []struct {
		key   string
		value *string
		cloud string
	}{
		{"login_url", &e.LoginURL, of.LoginURL},
		{"graph_url", &e.GraphURL, of.GraphURL},
		{"api_url", &e.APIURL, of.APIURL},
	} {
		if *endpoint.value == "" {
			*endpoint.value = endpoint.cloud
			continue
		}
		origin, err := parseOrigin(*endpoint.value)
		if err != nil {
			at.key(endpoint.key).problem("%s", err)
		}
		*endpoint.value = origin
	}
	if e.APIScope == "" {
		e.APIScope = of.APIScope
	} else if strings.ContainsAny(e.APIScope, "@?#") {
		at.key("api_scope").problem("must not contain a user name, a password or a query")
	} else if u, err := url.Parse(e.APIScope); err != nil || u.Scheme == "" || !strings.HasSuffix(e.APIScope, "/.default") {
		at.key("api_scope").problem("is not a scope such as %s", of.APIScope)
	}
}

// parseOrigin returns the normalized URL of a host: https, or http to a loopback
// address, with nothing after the host. The errors do not contain the URL, which may
// contain a password.
func parseOrigin(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return "", errors.New("not the URL of a host, such as https://api.example.com")
	case u.User != nil:
		return "", errors.New("must not contain a user name or password")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", errors.New("must end after the host: no path, query or fragment")
	case u.Scheme == "http" && !client.IsLoopback(u.Hostname()):
		return "", errors.New("plain http is only allowed for loopback addresses: use https")
	case u.Scheme != "http" && u.Scheme != "https":
		return "", errors.New("must begin with https://")
	}
	return u.Scheme + "://" + strings.ToLower(u.Host), nil
}

// http validates the section.
func (v *validator) http(at position, h *httpSection) {
	switch {
	case h.ProxyFromEnvironment && h.ProxyURL != "":
		at.problem("if proxy_from_environment is configured, proxy_url must not be configured")
	case h.ProxyFromEnvironment && h.NoProxy != "":
		at.problem("if proxy_from_environment is configured, no_proxy must not be configured")
	case h.ProxyURL == "" && h.NoProxy != "":
		at.problem("if no_proxy is configured, proxy_url must also be configured")
	}
	if h.ProxyURL != "" {
		u, err := url.Parse(string(h.ProxyURL))
		if err != nil || u.Hostname() == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
			at.key("proxy_url").problem("not the URL of a proxy, such as http://proxy.example.com:3128")
		}
	}
	v.absoluteTLS(at.key("tls_config"), &h.TLSConfig)
	v.tls(at.key("tls_config"), h.TLSConfig)
}

// absoluteTLS makes the section's paths absolute.
func (v *validator) absoluteTLS(at position, t *tlsSection) {
	t.CAFile = v.path(at.key("ca_file"), t.CAFile)
	t.CertFile = v.path(at.key("cert_file"), t.CertFile)
	t.KeyFile = v.path(at.key("key_file"), t.KeyFile)
}

// transport returns a transport that reads the TLS files again when they change. It
// reads them with readfile, because the library would block forever on a named pipe or
// a hanging file system.
func (h httpSection) transport() (http.RoundTripper, error) {
	c := h.clientConfig()
	files := &c.TLSConfig
	files.CARef, files.CAFile = files.CAFile, ""
	files.CertRef, files.CertFile = files.CertFile, ""
	files.KeyRef, files.KeyFile = files.KeyFile, ""
	return promconfig.NewRoundTripperFromConfigWithContext(context.Background(), c, "mde_exporter", promconfig.WithSecretManager(tlsFiles{}))
}

// tlsFiles is a secret manager that returns the content of files by path.
type tlsFiles struct{}

// Fetch returns the content of a file. Some callers pass a nil context.
func (tlsFiles) Fetch(ctx context.Context, path string) (string, error) {
	if ctx == nil {
		ctx = context.Background()
	}
	text, err := readfile.Text(ctx, path, maxConfigBytes)
	return strings.TrimSpace(string(text)), err
}

// clientConfig converts the section to Prometheus's type. Redirects are disabled by the
// client.
func (h httpSection) clientConfig() promconfig.HTTPClientConfig {
	c := promconfig.HTTPClientConfig{
		TLSConfig:   promconfig.TLSConfig(h.TLSConfig),
		EnableHTTP2: h.EnableHTTP2,
	}
	c.NoProxy = h.NoProxy
	c.ProxyFromEnvironment = h.ProxyFromEnvironment
	if h.ProxyURL != "" {
		if u, err := url.Parse(string(h.ProxyURL)); err == nil {
			c.ProxyURL = promconfig.URL{URL: u}
		}
	}
	return c
}

// secrets returns the passwords of the proxies that may be used.
func (h httpSection) secrets() []string {
	proxies := []string{string(h.ProxyURL)}
	if h.ProxyFromEnvironment {
		environment := httpproxy.FromEnvironment()
		proxies = append(proxies, environment.HTTPProxy, environment.HTTPSProxy)
	}
	var secrets []string
	for _, proxy := range proxies {
		if !strings.Contains(proxy, "://") {
			proxy = "http://" + proxy // The scheme is optional in the variables.
		}
		if u, err := url.Parse(proxy); err == nil {
			secrets = append(secrets, client.URLSecrets(u)...)
		}
	}
	return secrets
}
