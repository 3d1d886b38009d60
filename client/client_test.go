package client_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

// A fakeAPI is a sign-in host, Microsoft Graph and the Defender API on an in-memory network,
// so that it runs in the fake time of testing/synctest.
type fakeAPI struct {
	handler http.HandlerFunc
	conns   chan net.Conn

	mu       sync.Mutex
	requests []request
	observed []observation
	waits    time.Duration
}

// A request that the fakeAPI received.
type request struct {
	at    time.Time
	host  string
	path  string
	query string
	token string
}

// An observation is a call that the client reported to its Observer.
type observation struct {
	api  client.API
	code string
	took time.Duration
}

// newFakeAPI starts a fakeAPI. A token request gets a token with its scope and number;
// every other request is passed to the handler.
func newFakeAPI(t *testing.T, handler http.HandlerFunc) *fakeAPI {
	t.Helper()
	f := &fakeAPI{handler: handler, conns: make(chan net.Conn)}
	server := &http.Server{Handler: f}
	go func() { _ = server.Serve(f) }()
	t.Cleanup(func() { _ = server.Close() })
	return f
}

// options returns the options of a client of the fakeAPI. The three endpoints have
// different hosts.
func (f *fakeAPI) options(t *testing.T) client.Options {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		near, api := net.Pipe()
		select {
		case f.conns <- api:
			return near, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return client.Options{
		LoginURL:   &url.URL{Scheme: "http", Host: "127.0.0.1:1"},
		GraphURL:   &url.URL{Scheme: "http", Host: "127.0.0.1:2"},
		APIURL:     &url.URL{Scheme: "http", Host: "127.0.0.1:3"},
		GraphScope: "graph",
		APIScope:   "api",
		Credential: client.ClientSecret{TenantID: "tenant", ClientID: "app", Secret: "s"},
		Transport:  transport,
		Observer:   f,
	}
}

// client returns a client of the fakeAPI.
func (f *fakeAPI) client(t *testing.T) *client.Client {
	t.Helper()
	return newClient(t, f.options(t))
}

func newClient(t *testing.T, o client.Options) *client.Client {
	t.Helper()
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests = append(f.requests, request{time.Now(), r.Host, r.URL.Path, r.URL.RawQuery, r.Header.Get("Authorization")})
	tokens := len(f.requests)
	f.mu.Unlock()
	if r.URL.Path == "/tenant/oauth2/v2.0/token" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"access_token":"%s-%d","token_type":"Bearer","expires_in":86400}`, r.FormValue("scope"), tokens)
		return
	}
	f.handler(w, r)
}

// requestsTo returns the requests whose path contains the text.
func (f *fakeAPI) requestsTo(path string) []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []request
	for _, r := range f.requests {
		if strings.Contains(r.path, path) {
			found = append(found, r)
		}
	}
	return found
}

// codes returns the codes that the Observer got for an API.
func (f *fakeAPI) codes(api client.API) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var codes []string
	for _, o := range f.observed {
		if o.api == api {
			codes = append(codes, o.code)
		}
	}
	return strings.Join(codes, " ")
}

func (f *fakeAPI) Call(api client.API, code string, took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.observed = append(f.observed, observation{api, code, took})
}

func (f *fakeAPI) QuotaWait(_ client.API, wait time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waits += wait
}

// Accept, Close and Addr implement net.Listener.
func (f *fakeAPI) Accept() (net.Conn, error) {
	conn, ok := <-f.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (f *fakeAPI) Close() error {
	close(f.conns)
	return nil
}

func (f *fakeAPI) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// respond returns a handler with a fixed response.
func respond(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// collect iterates over a sequence. It fails the test if anything is yielded after an
// error.
func collect[Entity any, Kept any](t *testing.T, rows iter.Seq2[*Entity, error], keep func(*Entity) Kept) (kept []Kept, err error) {
	t.Helper()
	for row, e := range rows {
		if err != nil {
			t.Fatal("the sequence continued after an error")
		}
		if err = e; e == nil {
			kept = append(kept, keep(row))
		}
	}
	return kept, err
}

// builds returns the builds of all security states.
func builds(ctx context.Context, t *testing.T, c *client.Client) ([]string, error) {
	t.Helper()
	return collect(t, c.SecurityStates(ctx), func(s *client.SecurityState) string { return string(s.Build) })
}

// checkError fails unless err is a *client.Error with the reason and the texts.
func checkError(t *testing.T, err error, reason client.Reason, texts ...string) *client.Error {
	t.Helper()
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		t.Fatalf("error %v, want one of reason %s", err, reason)
	}
	if e.Reason != reason {
		t.Errorf("reason %s of %q, want %s", e.Reason, err, reason)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not contain %q", err, text)
		}
	}
	return e
}

func TestNewNamesInvalidOption(t *testing.T) {
	endpoint := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for _, test := range []struct {
		name   string
		change func(*client.Options)
		want   string
	}{
		{"no login URL", func(o *client.Options) { o.LoginURL = nil }, "login URL: missing"},
		{"no host", func(o *client.Options) { o.GraphURL = endpoint("https:///path") }, "Graph URL: no host"},
		{"plain http to another machine", func(o *client.Options) { o.APIURL = endpoint("http://192.0.2.1") }, "API URL: plain http"},
		{"another scheme", func(o *client.Options) { o.APIURL = endpoint("ftp://192.0.2.1") }, `API URL: scheme "ftp"`},
		{"user information", func(o *client.Options) { o.APIURL = endpoint("https://a@192.0.2.1") }, "API URL: user information"},
		{"no Graph scope", func(o *client.Options) { o.GraphScope = "" }, "Graph scope"},
		{"no API scope", func(o *client.Options) { o.APIScope = "" }, "API scope"},
		{"no credential", func(o *client.Options) { o.Credential = nil }, "credential"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := client.Options{
				LoginURL: endpoint("https://login.example"), GraphURL: endpoint("http://localhost:1"), APIURL: endpoint("http://[::1]"),
				GraphScope: "graph", APIScope: "api", Credential: client.ClientSecret{},
			}
			if _, err := client.New(o); err != nil {
				t.Fatalf("error %v before the change", err)
			}
			test.change(&o)
			_, err := client.New(o)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one that contains %q", err, test.want)
			}
		})
	}
}

// roundTripper is a function that implements http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
