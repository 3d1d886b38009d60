package client

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// arcAgent is the identity endpoint of an Azure Connected Machine agent.
type arcAgent struct {
	t *testing.T
	// challenge is the WWW-Authenticate of the first response; empty means that of a
	// new key file in the agent's directory.
	challenge string
	// answer responds to a request with the right key; nil responds with a token.
	answer http.HandlerFunc

	tokens   string // The agent's directory of keys.
	key      string // The key that was requested last.
	requests int
}

func (a *arcAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.requests++
	if got, want := r.URL.RequestURI(), "/metadata/identity/oauth2/token?api-version=2020-06-01&resource=https%3A%2F%2Fapi.example"; got != want {
		a.t.Errorf("request is %s, want %s", got, want)
	}
	if r.Header.Get("Metadata") != "true" {
		a.t.Errorf("headers are %v, want Metadata: true", r.Header)
	}
	switch authorization := r.Header.Get("Authorization"); {
	case authorization == "":
		challenge := a.challenge
		if challenge == "" {
			a.key = fmt.Sprintf("k3y-%d", a.requests)
			challenge = "Basic realm=" + writeFile(a.t, filepath.Join(a.tokens, fmt.Sprintf("%d.key", a.requests)), a.key)
		}
		if challenge != "none" {
			w.Header().Set("WWW-Authenticate", challenge)
		}
		w.WriteHeader(http.StatusUnauthorized)
	case authorization != "Basic "+a.key:
		a.t.Errorf("Authorization is %q, want that of the key %q", authorization, a.key)
		w.WriteHeader(http.StatusForbidden)
	case a.answer != nil:
		a.answer(w, r)
	default:
		fmt.Fprint(w, `{"access_token":"good","expires_in":"3600","expires_on":"x","token_type":"Bearer"}`)
	}
}

// arcTokens returns the tokens of a machine with this agent.
func (a *arcAgent) arcTokens() *tokens {
	server := httptest.NewServer(a)
	a.t.Cleanup(server.Close)
	return arcTokens(a.tokens, server.URL)
}

func arcTokens(dir, origin string) *tokens {
	o := Options{
		LoginURL: &url.URL{Scheme: "https", Host: "login.example"},
		Credential: ManagedIdentity{
			Endpoint: origin + "/metadata/identity/oauth2/token", IMDSEndpoint: origin, arcTokens: dir,
		},
		RequestTimeout: time.Minute,
		Observer:       noObserver{},
	}
	return newTokens(o, testScope, &throttle{}, &redactor{})
}

func TestAzureArcSendsKeyFromFile(t *testing.T) {
	agent := &arcAgent{t: t, tokens: t.TempDir()}
	tokens := agent.arcTokens()
	for range 2 { // Each request has its own key.
		token, err := tokens.token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(token.Expiry); left < 59*time.Minute || left > time.Hour {
			t.Errorf("the token is valid for %s, want an hour", left)
		}
		tokens.reject(token)
	}
	if agent.requests != 4 {
		t.Errorf("%d requests, want 4", agent.requests)
	}
}

func TestAzureArcParsesChallengeVariants(t *testing.T) {
	for name, challenge := range map[string]string{
		"as the agent sends it": "Basic realm=%s",
		"quoted":                `Basic realm="%s"`,
		"in lower case":         "basic Realm=%s",
	} {
		t.Run(name, func(t *testing.T) {
			agent := &arcAgent{t: t, tokens: t.TempDir(), key: "k3y"}
			agent.challenge = fmt.Sprintf(challenge, writeFile(t, filepath.Join(agent.tokens, "a.key"), "k3y\n"))
			mustToken(t, agent.arcTokens())
		})
	}
}

func TestAzureArcReadsOnlyAgentKeyFiles(t *testing.T) {
	tokens := t.TempDir()
	elsewhere := writeFile(t, filepath.Join(t.TempDir(), "s3cr3t.key"), "s3cr3t")
	link := filepath.Join(tokens, "link.key")
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"sub", "directory.key"} {
		if err := os.Mkdir(filepath.Join(tokens, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct{ challenge, want string }{
		"no challenge at all":     {"none", "WWW-Authenticate"},
		"another scheme":          {"Bearer realm=" + elsewhere, "WWW-Authenticate"},
		"no realm":                {"Basic", "WWW-Authenticate"},
		"an empty realm":          {"Basic realm=", "realm"},
		"a file elsewhere":        {"Basic realm=" + elsewhere, "is not a .key file directly in " + tokens},
		"a relative file":         {"Basic realm=a.key", "is not a .key file directly in " + tokens},
		"a path that leaves":      {"Basic realm=" + tokens + "/../" + filepath.Base(filepath.Dir(elsewhere)) + "/s3cr3t.key", "is not a .key file directly in " + tokens},
		"a path with dots":        {"Basic realm=" + tokens + "/sub/../a.key", "is not a .key file directly in " + tokens},
		"a directory below":       {"Basic realm=" + writeFile(t, filepath.Join(tokens, "sub", "a.key"), "s3cr3t"), "is not a .key file directly in " + tokens},
		"a directory beside":      {"Basic realm=" + tokens + "-of-mine/a.key", "is not a .key file directly in " + tokens},
		"another kind of file":    {"Basic realm=" + writeFile(t, filepath.Join(tokens, "a.txt"), "s3cr3t"), "is not a .key file directly in " + tokens},
		"a symbolic link":         {"Basic realm=" + link, "not a regular file"},
		"a directory":             {"Basic realm=" + filepath.Join(tokens, "directory.key"), "not a regular file"},
		"a missing file":          {"Basic realm=" + filepath.Join(tokens, "none.key"), "no such file"},
		"a large file":            {"Basic realm=" + writeFile(t, filepath.Join(tokens, "large.key"), strings.Repeat("s3cr3t", 1000)), "larger than 4 KiB"},
		"an empty file":           {"Basic realm=" + writeFile(t, filepath.Join(tokens, "empty.key"), "\n"), "the file is empty"},
		"a file of several lines": {"Basic realm=" + writeFile(t, filepath.Join(tokens, "lines.key"), "s3cr3t\r\nX: y"), "not a key"},
		"an oversized realm":      {"Basic realm=" + strings.Repeat("/s3cr3t", 10_000), "is not a .key file directly in " + tokens},
	} {
		t.Run(name, func(t *testing.T) {
			agent := &arcAgent{t: t, tokens: tokens, challenge: test.challenge}
			_, err := agent.arcTokens().token(t.Context())
			text := fmt.Sprint(err)
			if ReasonOf(err) != ReasonAuth || !strings.Contains(text, "Azure Arc") || !strings.Contains(text, test.want) {
				t.Errorf("error is %v, want %q", err, test.want)
			}
			if len(text) > 1000 {
				t.Errorf("the error has %d bytes", len(text))
			}
			if agent.requests != 1 {
				t.Errorf("%d requests, want 1", agent.requests)
			}
		})
	}
}

func TestAzureArcErrorsNameArcAndMaskKey(t *testing.T) {
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		reason Reason
		want   string
	}{
		"an error that repeats the key": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"error":"access_denied","error_description":"no %s"}`, r.Header.Get("Authorization"))
		}, ReasonAuth, "azcmagent show"},
		"the challenge again": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
		}, ReasonAuth, "azcmagent show"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		}, ReasonAuth, "redirect"},
		"no token": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{}`)
		}, ReasonDecode, "access_token"},
	} {
		t.Run(name, func(t *testing.T) {
			agent := &arcAgent{t: t, tokens: t.TempDir(), answer: test.answer}
			_, err := agent.arcTokens().token(t.Context())
			text := fmt.Sprint(err)
			if ReasonOf(err) != test.reason || !strings.Contains(text, "Azure Arc") || !strings.Contains(text, test.want) {
				t.Errorf("error is %v, want %q", err, test.want)
			}
			if strings.Contains(text, agent.key) {
				t.Errorf("the error contains the key: %v", err)
			}
			if agent.requests != 2 {
				t.Errorf("%d requests, want 2", agent.requests)
			}
		})
	}
}

func TestAzureArcWithoutAgent(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	tokens := arcTokens(t.TempDir(), "http://"+listener.Addr().String())
	_, err = tokens.token(WithRetryDeadline(t.Context(), time.Now()))
	if ReasonOf(err) != ReasonNetwork || !strings.Contains(fmt.Sprint(err), "Azure Arc") || !strings.Contains(fmt.Sprint(err), "azcmagent show") {
		t.Errorf("error is %v", err)
	}
}

func TestAzureArcRejectsUserAssignedIdentities(t *testing.T) {
	err := CheckCredential(t.Context(), ManagedIdentity{ClientID: "user-assigned", Endpoint: "http://127.0.0.1:1/token", IMDSEndpoint: "http://127.0.0.1:1"})
	if err == nil || !strings.Contains(err.Error(), "Azure Arc") || !strings.Contains(err.Error(), "remove client_id") {
		t.Errorf("error is %v", err)
	}
}

func TestManagedIdentityRequestsMatchPlatformDocumentation(t *testing.T) {
	const (
		metadata = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fapi.example"
		given    = "http://127.0.0.1:1/msi/token"
	)
	for name, test := range map[string]struct {
		credential    ManagedIdentity
		want          string
		header, value string
	}{
		"a virtual machine":             {ManagedIdentity{}, metadata, "Metadata", "true"},
		"an Azure Container Instance":   {ManagedIdentity{Header: "h34der"}, metadata, "Metadata", "true"},
		"an app service":                {ManagedIdentity{Endpoint: given, Header: "h34der"}, given + "?api-version=2019-08-01&resource=https%3A%2F%2Fapi.example", "X-Identity-Header", "h34der"},
		"an app service beside an IMDS": {ManagedIdentity{Endpoint: given, Header: "h34der", IMDSEndpoint: "http://127.0.0.1:1"}, given + "?api-version=2019-08-01&resource=https%3A%2F%2Fapi.example", "X-Identity-Header", "h34der"},
		"an endpoint alone":             {ManagedIdentity{Endpoint: given}, given + "?api-version=2018-02-01&resource=https%3A%2F%2Fapi.example", "Metadata", "true"},
		"an IMDS endpoint alone":        {ManagedIdentity{IMDSEndpoint: "http://127.0.0.1:1"}, metadata, "Metadata", "true"},
		"Azure Arc":                     {ManagedIdentity{Endpoint: given, IMDSEndpoint: "http://127.0.0.1:1"}, given + "?api-version=2020-06-01&resource=https%3A%2F%2Fapi.example", "Metadata", "true"},
	} {
		t.Run(name, func(t *testing.T) {
			tokens, _ := testTokens(test.credential, func(w http.ResponseWriter, r *http.Request) {
				if got := r.URL.String(); got != test.want {
					t.Errorf("request is %s, want %s", got, test.want)
				}
				for _, header := range []string{"Metadata", "X-Identity-Header"} {
					want := ""
					if header == test.header {
						want = test.value
					}
					if got := r.Header.Get(header); got != want {
						t.Errorf("%s is %q, want %q", header, got, want)
					}
				}
				fmt.Fprint(w, `{"access_token":"good","expires_in":3600}`)
			})
			mustToken(t, tokens)
		})
	}
}

func TestAzureArcAdviceNamesAgentOnlyForAgentErrors(t *testing.T) {
	for name, test := range map[string]struct {
		answer  http.HandlerFunc
		advised bool
	}{
		"a response without a token": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{}`) }, false},
		"no response in time":        {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			agent := &arcAgent{t: t, tokens: t.TempDir(), answer: test.answer}
			tokens := agent.arcTokens()
			if test.advised {
				tokens.transport.timeout = 50 * time.Millisecond
			}
			_, err := tokens.token(t.Context())
			if err == nil || strings.Contains(err.Error(), "azcmagent") != test.advised {
				t.Errorf("error %v, advice wanted: %t", err, test.advised)
			}
		})
	}
}

func TestAzureArcKeyAllowsAllPrintableCharacters(t *testing.T) {
	agent := &arcAgent{t: t, tokens: t.TempDir(), key: "~ k3y ~"}
	agent.challenge = "Basic realm=" + writeFile(t, filepath.Join(agent.tokens, "a.key"), agent.key)
	mustToken(t, agent.arcTokens())
}
