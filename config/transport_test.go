package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/config"
)

// authority is a CA for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a private CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key}
}

// pem returns the CA certificate as PEM.
func (a *authority) pem() string { return encode("CERTIFICATE", a.cert.Raw) }

// issue returns a certificate for 127.0.0.1 and its key as PEM. The key is ECDSA if
// rsaKey is false.
func (a *authority) issue(t *testing.T, end time.Time, rsaKey bool) (cert, key string) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "mde"},
		NotBefore: end.Add(-time.Hour), NotAfter: end,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	var public, private any
	if rsaKey {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		public, private = &k.PublicKey, k
	} else {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		public, private = &k.PublicKey, k
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", keyDER)
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// startTLS starts a server with a certificate of the CA. It responds with the protocol
// of the request and the common name of the client certificate.
func (a *authority) startTLS(t *testing.T, clients tls.ClientAuthType) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := ""
		if len(r.TLS.PeerCertificates) > 0 {
			name = " " + r.TLS.PeerCertificates[0].Subject.CommonName
		}
		fmt.Fprint(w, r.Proto, name)
	}))
	server.EnableHTTP2 = true
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	server.TLS = &tls.Config{ClientAuth: clients, ClientCAs: pool}
	a.certify(t, server.TLS)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func (a *authority) certify(t *testing.T, c *tls.Config) {
	t.Helper()
	cert, key := a.issue(t, time.Now().Add(time.Hour), false)
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	c.Certificates = []tls.Certificate{pair}
}

// proxy is a forward proxy that records the hosts it connects to.
type proxy struct {
	url           string
	authorization string

	mu    sync.Mutex
	hosts []string
}

func startProxy(t *testing.T) *proxy {
	p := &proxy{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
			return
		}
		p.mu.Lock()
		p.hosts = append(p.hosts, r.Host)
		p.authorization = r.Header.Get("Proxy-Authorization")
		p.mu.Unlock()
		target, err := net.Dial("tcp", r.Host)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			target.Close()
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() {
			defer target.Close()
			_, _ = io.Copy(target, conn)
		}()
		defer conn.Close()
		_, _ = io.Copy(conn, target)
	}))
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

func (p *proxy) connected() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hosts
}

// get requests url with the transport of the first tenant.
func get(t *testing.T, c *config.Config, url string) (string, error) {
	t.Helper()
	options, err := c.Tenants[0].ClientOptions()
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: options.Transport}
	t.Cleanup(client.CloseIdleConnections)
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

func TestPrivateCA(t *testing.T) {
	ca := newAuthority(t)
	server := ca.startTLS(t, tls.NoClientCert)

	if _, err := get(t, load(t, oneTenant), server.URL); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the CA: got %v, want an error about the certificate", err)
	}
	path := write(t, map[string]string{
		"mde.yml":    oneTenant + "  http_config: {tls_config: {ca_file: tls/ca.pem}}\n",
		"tls/ca.pem": ca.pem(),
	})
	if got, err := get(t, mustLoad(t, path), server.URL); got != "HTTP/2.0" || err != nil {
		t.Errorf("with the CA file: got %q, %v, want HTTP/2.0", got, err)
	}
	inline := fmt.Sprintf("  http_config: {enable_http2: false, tls_config: {ca: %q}}\n", ca.pem())
	if got, err := get(t, load(t, oneTenant+inline), server.URL); got != "HTTP/1.1" || err != nil {
		t.Errorf("with an inline CA, without HTTP/2: got %q, %v, want HTTP/1.1", got, err)
	}
}

func TestClientCertificate(t *testing.T) {
	ca := newAuthority(t)
	server := ca.startTLS(t, tls.RequireAndVerifyClientCert)
	cert, key := ca.issue(t, time.Now().Add(time.Hour), false)
	path := write(t, map[string]string{
		"mde.yml":  oneTenant + "  http_config: {tls_config: {ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem}}\n",
		"ca.pem":   ca.pem(),
		"cert.pem": cert,
		"key.pem":  key,
	})
	if got, err := get(t, mustLoad(t, path), server.URL); got != "HTTP/2.0 mde" || err != nil {
		t.Errorf("got %q, %v, want HTTP/2.0 mde", got, err)
	}
}

func TestProxy(t *testing.T) {
	ca := newAuthority(t)
	server := ca.startTLS(t, tls.NoClientCert)
	host := strings.TrimPrefix(server.URL, "https://")
	tlsConfig := fmt.Sprintf("tls_config: {ca: %q}", ca.pem())

	p := startProxy(t)
	withPassword := strings.Replace(p.url, "http://", "http://me:hush@", 1)
	c := load(t, oneTenant+"  http_config: {proxy_url: '"+withPassword+"', "+tlsConfig+"}\n")
	if got, err := get(t, c, server.URL); got != "HTTP/2.0" || err != nil {
		t.Errorf("got %q, %v, want HTTP/2.0", got, err)
	}
	if hosts := p.connected(); len(hosts) != 1 || hosts[0] != host {
		t.Errorf("proxy connected to %v, want %s", hosts, host)
	}
	if want := "Basic " + base64.StdEncoding.EncodeToString([]byte("me:hush")); p.authorization != want {
		t.Errorf("proxy received %q, want %q", p.authorization, want)
	}

	other := startProxy(t)
	c = load(t, oneTenant+"  http_config: {proxy_url: '"+other.url+"', no_proxy: 127.0.0.1, "+tlsConfig+"}\n")
	if got, err := get(t, c, server.URL); got != "HTTP/2.0" || err != nil {
		t.Errorf("with no_proxy: got %q, %v, want HTTP/2.0", got, err)
	}
	if hosts := other.connected(); len(hosts) != 0 {
		t.Errorf("proxy connected to %v despite no_proxy", hosts)
	}
}

func TestProxyFromEnvironment(t *testing.T) {
	p := startProxy(t)
	t.Setenv("HTTPS_PROXY", p.url)
	t.Setenv("NO_PROXY", "")
	// The environment's proxy is never used for loopback hosts.
	const url = "https://mde.invalid/"
	if _, err := get(t, load(t, oneTenant), url); err == nil || len(p.connected()) != 0 {
		t.Errorf("without proxy_from_environment: got %v, connected to %v", err, p.connected())
	}
	if _, err := get(t, load(t, oneTenant+"  http_config: {proxy_from_environment: true}\n"), url); err == nil {
		t.Error("got a response from a host that does not exist")
	}
	if hosts := p.connected(); len(hosts) != 1 || hosts[0] != "mde.invalid:443" {
		t.Errorf("proxy connected to %v, want mde.invalid:443", hosts)
	}
}

func TestInvalidTLSFilesAreRejected(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue(t, time.Now().Add(time.Hour), false)
	_, other := ca.issue(t, time.Now().Add(time.Hour), false)
	path := write(t, map[string]string{
		"mde.yml": `tenants:
- name: a
  azuread: {oauth: ` + oauth + `}
  http_config:
    tls_config:
      ca_file: key.pem
      cert_file: cert.pem
      key_file: other.pem
- name: b
  azuread: {oauth: ` + oauth + `}
  http_config:
    tls_config:
      ca_file: none.pem
      cert_file: empty.pem
      key_file: key.pem
`,
		"cert.pem": cert, "key.pem": key, "other.pem": other, "empty.pem": "\n",
	})
	_, err := config.Load(path, config.Overrides{})
	want := []string{
		"mde.yml:6: tenants[0].http_config.tls_config.ca_file: contains no PEM certificate",
		"mde.yml:7: tenants[0].http_config.tls_config.cert_file: certificate and key do not match: tls: private key does not match public key",
		"mde.yml:13: tenants[1].http_config.tls_config.ca_file: none.pem: no such file or directory",
		"mde.yml:14: tenants[1].http_config.tls_config.cert_file: empty.pem: empty",
	}
	if got := lines(err, filepath.Dir(path)); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

const azuread = "  azuread: {oauth: " + oauth + "}\n"

func TestSecretsInURLsAreNotPrinted(t *testing.T) {
	for what, text := range map[string]string{
		"proxy user":                   "tenants:\n- name: a\n" + azuread + "  http_config: {proxy_url: 'http://hush-token@127.0.0.1:3128'}\n",
		"proxy query":                  "tenants:\n- name: a\n" + azuread + "  http_config: {proxy_url: 'http://127.0.0.1:3128/?key=hush-token'}\n",
		"proxy fragment":               "tenants:\n- name: a\n" + azuread + "  http_config: {proxy_url: 'http://127.0.0.1:3128/#hush-token'}\n",
		"proxy with an unknown scheme": "tenants:\n- name: a\n" + azuread + "  http_config: {proxy_url: 'ftp://hush-token@127.0.0.1'}\n",
		"scope":                        "tenants:\n- name: a\n" + azuread + "  endpoints: {api_scope: 'https://user:hush-token@api.example/.default'}\n",
		"scope query":                  "tenants:\n- name: a\n" + azuread + "  endpoints: {api_scope: 'https://api.example/?key=hush-token'}\n",
		"endpoint":                     "tenants:\n- name: a\n" + azuread + "  endpoints: {api_url: 'https://hush-token@api.example'}\n",
		"endpoint query":               "tenants:\n- name: a\n" + azuread + "  endpoints: {api_url: 'https://api.example?hush-token'}\n",
		"watched URL":                  "tenants:\n- name: a\n" + azuread + "  watched_domains: {domains: ['https://user:hush-token@evil.example/?hush-token']}\n",
	} {
		t.Run(what, func(t *testing.T) {
			c, err := config.Load(write(t, map[string]string{"mde.yml": text}), config.Overrides{})
			if printed := fmt.Sprintln(c, err); strings.Contains(printed, "hush") {
				t.Errorf("secret printed: %s", printed)
			}
		})
	}
}

func TestClientOptionsIncludeProxySecrets(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "user:from-environment@proxy.example:3128")
	t.Setenv("HTTP_PROXY", "http://token-from-environment@proxy.example:3128")
	for http, want := range map[string][]string{
		"proxy_url: 'http://user:p%40ssword@127.0.0.1:3128'": {"p@ssword"},
		"proxy_url: 'http://token@127.0.0.1:3128?key=value'": {"token", "value"},
		"proxy_from_environment: true":                       {"token-from-environment", "from-environment"},
		"enable_http2: true":                                 nil,
	} {
		c := load(t, "tenants:\n- name: a\n"+azuread+"  http_config: {"+http+"}\n")
		o, err := c.Tenants[0].ClientOptions()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(o.Secrets, want) {
			t.Errorf("%s: secrets %q, want %q", http, o.Secrets, want)
		}
	}
}

func TestPrivateKeysAreMasked(t *testing.T) {
	cert, key := newAuthority(t).issue(t, time.Now().Add(time.Hour), false)
	text := load(t, oneTenant+fmt.Sprintf("  http_config: {tls_config: {cert: %q, key: %q, server_name: x}}\n", cert+key, key)).String()
	if strings.Contains(text, strings.Split(key, "\n")[1]) || strings.Contains(text, "BEGIN") {
		t.Errorf("key printed:\n%s", text)
	}
	if !strings.Contains(text, "server_name: x") {
		t.Errorf("no server_name in\n%s", text)
	}
}
