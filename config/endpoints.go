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

// endpoints fills in what the cloud says where nothing overrides it.
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
		at.key("api_scope").problem("must not hold a user name, a password or a query")
	} else if u, err := url.Parse(e.APIScope); err != nil || u.Scheme == "" || !strings.HasSuffix(e.APIScope, "/.default") {
		at.key("api_scope").problem("is not a scope such as %s", of.APIScope)
	}
}

// parseOrigin accepts the URL of a host: https, or plain http to this very
// machine, and nothing behind the host. The errors do not repeat the URL, which
// may hold a password.
func parseOrigin(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return "", errors.New("not the URL of a host, such as https://api.example.com")
	case u.User != nil:
		return "", errors.New("must not hold a user name or password")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", errors.New("must end after the host: no path, query or fragment")
	case u.Scheme == "http" && !client.IsLoopback(u.Hostname()):
		return "", errors.New("plain http is allowed to a loopback address only: use https")
	case u.Scheme != "http" && u.Scheme != "https":
		return "", errors.New("must begin with https://")
	}
	return u.Scheme + "://" + strings.ToLower(u.Host), nil
}

// http validates how the hosts are reached.
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

// absoluteTLS makes the paths of the section absolute.
func (v *validator) absoluteTLS(at position, t *tlsSection) {
	t.CAFile = v.path(at.key("ca_file"), t.CAFile)
	t.CertFile = v.path(at.key("cert_file"), t.CertFile)
	t.KeyFile = v.path(at.key("key_file"), t.KeyFile)
}

// transport returns a transport that reads the TLS files again when they change, as
// readfile does: the library's own reading waits without end for a named pipe or a
// file system that hangs.
func (h httpSection) transport() (http.RoundTripper, error) {
	c := h.clientConfig()
	files := &c.TLSConfig
	files.CARef, files.CAFile = files.CAFile, ""
	files.CertRef, files.CertFile = files.CertFile, ""
	files.KeyRef, files.KeyFile = files.KeyFile, ""
	return promconfig.NewRoundTripperFromConfigWithContext(context.Background(), c, "mde_exporter", promconfig.WithSecretManager(tlsFiles{}))
}

// tlsFiles is a secret manager whose secrets are files, by their path.
type tlsFiles struct{}

// Fetch returns the text of a file. Some callers have no context and pass nil.
func (tlsFiles) Fetch(ctx context.Context, path string) (string, error) {
	if ctx == nil {
		ctx = context.Background()
	}
	text, err := readfile.Text(ctx, path, maxConfigBytes)
	return strings.TrimSpace(string(text)), err
}

// clientConfig is the section as Prometheus's own type. Redirects are the
// client's business, which follows none.
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

// secrets are those of the proxies that may be used.
func (h httpSection) secrets() []string {
	proxies := []string{string(h.ProxyURL)}
	if h.ProxyFromEnvironment {
		environment := httpproxy.FromEnvironment()
		proxies = append(proxies, environment.HTTPProxy, environment.HTTPSProxy)
	}
	var secrets []string
	for _, proxy := range proxies {
		if !strings.Contains(proxy, "://") {
			proxy = "http://" + proxy // The variables may leave it out.
		}
		if u, err := url.Parse(proxy); err == nil {
			secrets = append(secrets, client.URLSecrets(u)...)
		}
	}
	return secrets
}
