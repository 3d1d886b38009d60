package client

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestManagedIdentityUsesInstanceMetadataService(t *testing.T) {
	tokens, _ := testTokens(ManagedIdentity{ClientID: "user-assigned"}, func(w http.ResponseWriter, r *http.Request) {
		want := "GET http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&client_id=user-assigned&resource=https%3A%2F%2Fapi.example"
		if got := r.Method + " " + r.URL.String(); got != want {
			t.Errorf("request is %s, want %s", got, want)
		}
		if r.Header.Get("Metadata") != "true" || r.Header.Get("X-IDENTITY-HEADER") != "" {
			t.Errorf("headers are %v", r.Header)
		}
		fmt.Fprint(w, `{"access_token":"good","expires_in":"86399","expires_on":"1","resource":"x","token_type":"Bearer"}`)
	})
	token, err := tokens.token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(token.Expiry); left < 86300*time.Second || left > 86399*time.Second {
		t.Errorf("the token is valid for %s, want 86399s", left)
	}
}

func TestManagedIdentityUsesEndpointFromEnvironment(t *testing.T) {
	for name, expiresOn := range map[string]string{"expires_on a string": `"%d"`, "expires_on a number": `%d`} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if got, want := r.URL.String(), "/msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fapi.example"; got != want {
					t.Errorf("request is %s, want %s", got, want)
				}
				if r.Header.Get("X-IDENTITY-HEADER") != "h34der" || r.Header.Get("Metadata") != "" {
					t.Errorf("headers are %v", r.Header)
				}
				fmt.Fprintf(w, `{"access_token":"good","expires_on":`+expiresOn+`,"token_type":"Bearer"}`, time.Now().Add(time.Hour).Unix())
			}))
			defer server.Close()
			o := Options{
				LoginURL:       &url.URL{Scheme: "https", Host: "login.example"},
				Credential:     ManagedIdentity{Endpoint: server.URL + "/msi/token", Header: "h34der"},
				RequestTimeout: time.Minute,
				Observer:       noObserver{},
			}
			// The client's transport may use a proxy, so it must not be used here.
			proxied := roundTrip(func(*http.Request) (*http.Response, error) {
				t.Error("the request used the tenant's transport")
				return nil, io.EOF
			})
			o.Transport = proxied
			token, err := newTokens(o, testScope, &throttle{}, &redactor{}).token(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if left := time.Until(token.Expiry); left < 59*time.Minute || left > time.Hour {
				t.Errorf("the token is valid for %s, want an hour", left)
			}
		})
	}
}

func TestManagedIdentityIgnoresProxyFromEnvironment(t *testing.T) {
	transport, ok := newIdentityTransport().(*http.Transport)
	if !ok || transport.Proxy != nil {
		t.Error("the transport uses a proxy")
	}
}

func TestManagedIdentityRetriesWhileEndpointIsNotReady(t *testing.T) {
	for _, status := range []int{404, 410, 429, 500, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var asked []time.Duration
				tokens, _ := testTokens(ManagedIdentity{}, func(w http.ResponseWriter, _ *http.Request) {
					asked = append(asked, time.Since(start).Round(time.Second))
					w.WriteHeader(status)
				})
				_, err := tokens.token(t.Context())
				if err == nil {
					t.Fatal("no error")
				}
				if got, want := fmt.Sprint(asked), "[0s 2s 8s 22s 52s]"; got != want {
					t.Errorf("requests at %s, want %s", got, want)
				}
				// The credential was not rejected: the next caller makes an attempt immediately.
				before := len(asked)
				_, _ = tokens.token(t.Context())
				if len(asked) == before {
					t.Error("a temporary error was cached as a rejection")
				}
			})
		})
	}
}

func TestMissingManagedIdentityIsAnAuthError(t *testing.T) {
	for name, test := range map[string]struct {
		status     int
		body, want string
	}{
		"with a message":    {http.StatusBadRequest, `{"error":"invalid_request","error_description":"Identity not found"}`, "Identity not found"},
		"without a message": {http.StatusForbidden, ``, "HTTP 403"},
	} {
		t.Run(name, func(t *testing.T) {
			tokens, f := testTokens(ManagedIdentity{ClientID: "nobody"}, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				fmt.Fprint(w, test.body)
			})
			asked := 0
			tokens.transport.base = roundTrip(func(r *http.Request) (*http.Response, error) {
				asked++
				return f.RoundTrip(r)
			})
			for range 3 {
				_, err := tokens.token(t.Context())
				for _, want := range []string{test.want, "check that an identity is assigned to this machine"} {
					if ReasonOf(err) != ReasonAuth || !strings.Contains(fmt.Sprint(err), want) {
						t.Fatalf("error is %v, want %q", err, want)
					}
				}
			}
			if asked != 1 {
				t.Errorf("%d requests, want 1", asked)
			}
		})
	}
}

func TestManagedIdentityRequiresStatus200(t *testing.T) {
	for _, status := range []int{200, 201, 202, 203, 206} {
		for name, credential := range map[string]ManagedIdentity{
			"instance metadata": {},
			"App Service":       {Endpoint: "http://127.0.0.1/msi/token", Header: "h34der"},
			"Azure Arc":         {Endpoint: "http://127.0.0.1/token", IMDSEndpoint: "http://127.0.0.1"},
		} {
			t.Run(fmt.Sprint(name, status), func(t *testing.T) {
				tokens, _ := testTokens(credential, scripted(status, `{"access_token":"t0k3n","expires_in":3600,"token_type":"Bearer"}`))
				token, err := tokens.attempt(t.Context())
				switch {
				case status == http.StatusOK:
					if err != nil || token.AccessToken != "t0k3n" {
						t.Errorf("token %v, error %v", token, err)
					}
				case ReasonOf(err) != ReasonAuth, !strings.Contains(fmt.Sprint(err), fmt.Sprint("HTTP ", status)), strings.Contains(fmt.Sprint(err), "t0k3n"):
					t.Errorf("error is %v", err)
				}
			})
		}
	}
}

func TestManagedIdentityPlainHTTPOnlyForLocalAddresses(t *testing.T) {
	for endpoint, accepted := range map[string]bool{
		"":                                     true,
		"http://127.0.0.1:8081/msi/token":      true,
		"http://localhost:42356/msi/token":     true,
		"http://[::1]/token":                   true,
		"http://169.254.169.254/token":         true,
		"http://169.254.131.5:8081/msi/token":  true,
		"https://identity.example/token":       true,
		"http://identity.example/token":        false,
		"http://10.0.0.1/token":                false,
		"http://169.254.169.254.example/token": false,
		"http://localhost.example/token":       false,
		"http://127.0.0.1@identity.example/":   false,
		"ftp://127.0.0.1/token":                false,
		"127.0.0.1:8081":                       false,
		"not an address":                       false,
	} {
		tokens, _ := testTokens(ManagedIdentity{Endpoint: endpoint, Header: "h34der"}, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"access_token":"good","expires_in":3600}`)
		})
		_, err := tokens.token(t.Context())
		if accepted != (err == nil) {
			t.Errorf("%q: error is %v, want accepted %v", endpoint, err, accepted)
		}
		if strings.Contains(fmt.Sprint(err), "h34der") {
			t.Errorf("%q: the error contains the header: %v", endpoint, err)
		}
	}
}

func TestInvalidIdentityEndpointErrorMasksPassword(t *testing.T) {
	for _, endpoint := range []string{
		"http://user:hush-token@198.51.100.1/msi/token?key=hush-token", "hush-token", "http://user:hush%zztoken@198.51.100.1/",
		"http://hush-token@198.51.100.1/", "ftp://user:hush-token@127.0.0.1/", "user:hush-token@127.0.0.1/",
	} {
		credential := ManagedIdentity{Endpoint: endpoint}
		tokens, _ := testTokens(credential, nil)
		_, err := tokens.token(t.Context())
		if text := fmt.Sprint(err, CheckCredential(t.Context(), credential)); err == nil || strings.Contains(text, "hush") {
			t.Errorf("%s: %s", endpoint, text)
		}
	}
}
