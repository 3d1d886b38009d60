package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

// service is a sign-in host, Microsoft Graph and the Defender API in memory, with scripted
// errors.
type service struct {
	// refused is the status and body of token requests for a scope.
	refused map[string]script
	// failures are the status and body of API calls, by path.
	failures map[string]script
	// roles are the roles in the token for the API.
	roles string
	// clock is added to the Date header of every response.
	clock time.Duration

	mu    sync.Mutex
	calls map[string]int
}

// script is an error response.
type script struct {
	status int
	body   string
}

func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	if s.calls == nil {
		s.calls = map[string]int{}
	}
	s.calls[r.URL.Path]++
	s.mu.Unlock()
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Date", time.Now().Add(s.clock).UTC().Format(http.TimeFormat))
	switch {
	case strings.HasSuffix(r.URL.Path, "/oauth2/v2.0/token"):
		scope := r.FormValue("scope")
		if f, ok := s.refused[scope]; ok {
			w.WriteHeader(f.status)
			fmt.Fprint(w, f.body)
			break
		}
		roles := s.roles
		if strings.Contains(scope, "graph") {
			roles = ""
		}
		fmt.Fprintf(w, `{"token_type":"Bearer","expires_in":3599,"access_token":%q}`, unsignedToken(strings.TrimSuffix(scope, "/.default"), roles))
	case s.failures[r.URL.Path].status != 0:
		w.WriteHeader(s.failures[r.URL.Path].status)
		fmt.Fprint(w, s.failures[r.URL.Path].body)
	case strings.HasSuffix(r.URL.Path, "Score"):
		fmt.Fprint(w, `{"@odata.context":"x","time":"2019-12-03T07:23:53.280499Z","score":33.49}`)
	case strings.HasSuffix(r.URL.Path, "/stats"):
		fmt.Fprint(w, `{"host":"example.com","organizationPrevalence":0,"orgFirstSeen":null,"orgLastSeen":null}`)
	default:
		fmt.Fprint(w, `{"@odata.context":"x","value":[]}`)
	}
	return w.Result(), nil
}

// unsignedToken returns an unsigned token with claims.
func unsignedToken(audience, roles string) string {
	part := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"aud":%q,"roles":[%s]}`, audience, roles)
	return part([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + part([]byte(claims)) + "."
}

const (
	graphScope = "https://graph.microsoft.com/.default"
	apiScope   = "https://api.securitycenter.microsoft.com/.default"
	allRoles   = `"Machine.Read.All","URL.Read.All"`
	states     = "/testwdatppreview/machinesecuritystates"
	domain     = "/api/domains/example.com/"
)

// missingPreview is the response of the preview in most tenants.
var missingPreview = map[string]script{states: {http.StatusNotFound, `{"error":{"code":"ResourceNotFound","message":"Resource not found"}}`}}

func diagnosed(t *testing.T, transport http.RoundTripper, needs ...client.Need) client.Diagnosis {
	t.Helper()
	at := func(host string) *url.URL { return &url.URL{Scheme: "https", Host: host} }
	c := newClient(t, client.Options{
		LoginURL: at("login.microsoftonline.com"), GraphURL: at("graph.microsoft.com"), APIURL: at("api.security.microsoft.com"),
		GraphScope: graphScope, APIScope: apiScope,
		Credential:     client.ClientSecret{TenantID: "tenant", ClientID: "app", Secret: "not a secret"},
		Transport:      transport,
		RequestTimeout: 10 * time.Second,
	})
	return client.Diagnosis{Tenant: "contoso", Checks: c.Diagnose(t.Context(), needs...)}
}

// table returns the printed diagnosis.
func table(t *testing.T, diagnoses ...client.Diagnosis) string {
	t.Helper()
	var b strings.Builder
	if err := client.WriteDiagnoses(&b, diagnoses, 0); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The needs of security_states with source auto.
var usual = []client.Need{{client.MachineSecurityStates, client.Machines}, {client.DomainMachines}}

func TestDiagnosisShowsWhatIsMissingAndHowToFixIt(t *testing.T) {
	for name, test := range map[string]struct {
		service *service
		needs   []client.Need
		// results are those that differ from "ok".
		results map[string]client.Result
		want    []string
	}{
		"everything works": {
			&service{roles: allRoles}, usual, nil,
			[]string{"roles Machine.Read.All URL.Read.All", "for https://graph.microsoft.com, no roles", "expires in 59m59s", "within 1s of the sign-in host", "Everything that is needed works."},
		},
		"no preview, source auto": {
			&service{roles: allRoles, failures: missingPreview}, usual,
			map[string]client.Result{"machinesecuritystates": client.Optional},
			[]string{"HTTP 404: ResourceNotFound", "does not have the preview", "Everything that is needed works."},
		},
		"no preview and no other permission": {
			&service{roles: allRoles, failures: missingPreview}, []client.Need{{client.MachineSecurityStates}},
			map[string]client.Result{"machinesecuritystates": client.Missing},
			[]string{"security_states.source to auto or machines", "Something that is needed is missing"},
		},
		"no token for Graph": {
			&service{roles: allRoles, refused: map[string]script{graphScope: {400, `{"error":"invalid_resource","error_description":"AADSTS500011: The resource principal was not found.","error_codes":[500011]}`}}}, usual,
			map[string]client.Result{"Graph token": client.Optional, "machinesecuritystates": client.Optional},
			[]string{"AADSTS500011", "not tried: no token", "Everything that is needed works."},
		},
		"the role for statistics is missing and not needed": {
			&service{roles: `"Machine.Read.All"`, failures: map[string]script{domain + "stats": {403, `{"error":{"code":"Forbidden","message":"Missing application roles"}}`}}}, usual,
			map[string]client.Result{"domain_stats": client.Optional},
			[]string{"HTTP 403: Forbidden", "add the application permission URL.Read.All of WindowsDefenderATP", "Everything that is needed works."},
		},
		"the role for statistics is missing and needed": {
			&service{roles: `"Machine.Read.All"`, failures: map[string]script{domain + "stats": {403, ``}}}, append(usual, client.Need{client.DomainStats}),
			map[string]client.Result{"domain_stats": client.Missing},
			[]string{"URL.Read.All", "grant admin consent", "Something that is needed is missing"},
		},
		"every role is missing": {
			&service{failures: map[string]script{states: {403, ``}, "/api/machines": {403, ``}, "/api/deviceavinfo": {403, ``}, domain + "machines": {403, ``}, domain + "stats": {403, ``}}}, usual,
			map[string]client.Result{"API token": client.Works, "machinesecuritystates": client.Missing, "machines": client.Missing, "deviceavinfo": client.Optional, "domain_machines": client.Missing, "domain_stats": client.Optional},
			[]string{"for https://api.securitycenter.microsoft.com, no roles", "add the application permission Machine.Read.All"},
		},
		"the role is granted and the tenant denies access": {
			&service{roles: allRoles, failures: map[string]script{domain + "machines": {403, `{"error":{"code":"DisabledFeature","message":"Disabled"}}`}}}, usual,
			map[string]client.Result{"domain_machines": client.Missing},
			[]string{"DisabledFeature", "the tenant denies access"},
		},
		"a wrong secret": {
			&service{refused: map[string]script{
				graphScope: {401, `{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.","error_codes":[7000215]}`},
				apiScope:   {401, `{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.","error_codes":[7000215]}`},
			}}, usual,
			map[string]client.Result{"Graph token": client.Missing, "API token": client.Missing, "machinesecuritystates": client.Missing, "machines": client.Missing, "deviceavinfo": client.Optional, "domain_machines": client.Missing, "domain_stats": client.Optional, "exposure_score": client.Optional, "device_group_exposure_score": client.Optional, "device_secure_score": client.Optional, "alerts": client.Optional},
			[]string{"HTTP 401: invalid_client: AADSTS7000215: Invalid client secret provided\n", "→ the client secret is wrong", "not tried"},
		},
		"a clock that is behind": {
			&service{roles: allRoles, clock: 11 * time.Minute}, usual,
			map[string]client.Result{"clock": client.Missing},
			[]string{"this machine is 11m0s behind the sign-in host", "set this machine's clock"},
		},
		"a clock that is behind by the maximum skew": {
			&service{roles: allRoles, clock: 5 * time.Minute}, usual, nil,
			[]string{"within 5m0s of the sign-in host"},
		},
		"a clock that is ahead": {
			&service{roles: allRoles, clock: -2 * time.Hour}, usual,
			map[string]client.Result{"clock": client.Missing},
			[]string{"ahead of the sign-in host"},
		},
		"a token that the API rejects": {
			&service{roles: allRoles, failures: map[string]script{"/api/machines": {401, `{"error":{"code":"Unauthorized","message":"Invalid audience"}}`}}}, []client.Need{{client.Machines}},
			map[string]client.Result{"machines": client.Missing},
			[]string{"does not accept a token for https://api.securitycenter.microsoft.com", "api_scope"},
		},
		"another server in the API's place": {
			&service{roles: allRoles, failures: map[string]script{"/api/machines": {200, `<html>hello`}}}, []client.Need{{client.Machines}},
			map[string]client.Result{"machines": client.Missing},
			[]string{"check that api.security.microsoft.com is the API's host"},
		},
		"a 300 response": {
			&service{roles: allRoles, failures: map[string]script{"/api/machines": {300, ``}}}, []client.Need{{client.Machines}},
			map[string]client.Result{"machines": client.Missing},
			[]string{"check that api.security.microsoft.com is the API's host"},
		},
		"a response that is not a list": {
			&service{roles: allRoles, failures: map[string]script{"/api/machines": {200, `{"hello":"world"}`}}}, []client.Need{{client.Machines}},
			map[string]client.Result{"machines": client.Missing},
			[]string{"it is not a list"},
		},
		"a spent quota": {
			&service{roles: allRoles, failures: map[string]script{"/api/machines": {429, ``}}}, []client.Need{{client.Machines}},
			map[string]client.Result{"machines": client.Missing},
			[]string{"HTTP 429", "what else calls this API"},
		},
		"an unknown domain, older service": {
			&service{roles: allRoles, failures: map[string]script{domain + "machines": missingPreview[states], domain + "stats": missingPreview[states]}}, usual, nil, nil,
		},
		"a server without that path": {
			&service{roles: allRoles, failures: map[string]script{domain + "machines": {404, `<html>not found`}}}, usual,
			map[string]client.Result{"domain_machines": client.Missing},
			[]string{"check that api.security.microsoft.com is the API's host"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := diagnosed(t, test.service, test.needs...)
				text := table(t, d)
				if len(d.Checks) != 12 {
					t.Errorf("%d checks, want 12", len(d.Checks))
				}
				complete := true
				for _, check := range d.Checks {
					want, ok := test.results[check.Name]
					if !ok {
						want = client.Works
					}
					if check.Result != want {
						t.Errorf("%s is %s, want %s", check.Name, check.Result, want)
					}
					complete = complete && want != client.Missing
				}
				if d.Complete() != complete {
					t.Errorf("complete is %v, want %v", d.Complete(), complete)
				}
				for _, want := range test.want {
					if !strings.Contains(text, want) {
						t.Errorf("the table does not contain %q", want)
					}
				}
				for path, n := range test.service.calls {
					if n != 1 && !strings.HasSuffix(path, "/token") {
						t.Errorf("%d calls to %s, want 1", n, path)
					}
				}
				if strings.Contains(text, unsignedToken("", "")[:20]) || strings.Contains(text, "not a secret") {
					t.Error("the table contains a token or a secret")
				}
				if t.Failed() {
					t.Log("\n" + text)
				}
			})
		})
	}
}

func TestDiagnosisShowsWhyAHostIsUnreachable(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	private := httptest.NewUnstartedServer(nil)
	private.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	private.StartTLS()
	defer private.Close()
	plain := httptest.NewServer(nil)
	defer plain.Close()
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	defer refusing.Close()
	// to connects to the server for every host.
	to := func(server *httptest.Server) *http.Transport {
		return &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
		}}
	}
	proxy := func(server *httptest.Server) *http.Transport {
		u, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		return &http.Transport{Proxy: http.ProxyURL(u)}
	}
	// The certificate of httptest is made for example.com.
	unknown := to(private)
	unknown.TLSClientConfig = &tls.Config{ServerName: "example.com"}
	failing := func(err error) http.RoundTripper {
		return transportFunc(func(*http.Request) (*http.Response, error) { return nil, err })
	}
	for name, test := range map[string]struct {
		transport http.RoundTripper
		want      []string
	}{
		"a name that does not resolve":     {failing(&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "login.microsoftonline.com", IsNotFound: true}}), []string{"reach login.microsoftonline.com", "cannot resolve login.microsoftonline.com: check its DNS"}},
		"nothing listens":                  {to(closed), []string{"connection refused", "nothing accepts connections there"}},
		"an unreachable proxy":             {proxy(closed), []string{"proxyconnect", "check http_config.proxy_url"}},
		"a proxy that requires a password": {proxy(refusing), []string{"Proxy Authentication Required", "http_config.proxy_url"}},
		"a certificate of an unknown CA":   {unknown, []string{"signed by an unknown authority", "tls_config.ca_file"}},
		"a certificate of another host":    {failing(x509.HostnameError{Certificate: private.Certificate(), Host: "login.microsoftonline.com"}), []string{"for another host"}},
		"an expired certificate":           {failing(x509.CertificateInvalidError{Cert: private.Certificate(), Reason: x509.Expired}), []string{"check the clock first"}},
		"a server that does not speak TLS": {to(plain), []string{"does not speak TLS"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := diagnosed(t, test.transport, usual...)
			text := table(t, d)
			for _, want := range append(test.want, "not compared: no response of the sign-in host had a Date header") {
				if !strings.Contains(text, want) {
					t.Errorf("the table does not contain %q:\n%s", want, text)
				}
			}
			if d.Complete() {
				t.Error("the diagnosis is complete")
			}
		})
	}
}

func TestDiagnosisOfHangingHostTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		d := diagnosed(t, transportFunc(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}), usual...)
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("took %s with a request timeout of 10s", took)
		}
		if text := table(t, d); !strings.Contains(text, "a firewall may drop the packets") {
			t.Errorf("the table does not show the cause:\n%s", text)
		}
	})
}

// The documentation must show what the program prints.
func TestTroubleshootingPageMatchesDiagnosisOutput(t *testing.T) {
	page, err := os.ReadFile("../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		contoso := diagnosed(t, &service{roles: `"Alert.Read.All","Machine.Read.All","Score.Read.All"`, failures: map[string]script{
			states:           missingPreview[states],
			domain + "stats": {403, `{"error":{"code":"Forbidden","message":"Missing application roles. API required roles: URL.Read.All"}}`},
		}}, usual...)
		refused := script{401, `{"error":"invalid_client","error_description":"AADSTS7000222: The provided client secret keys for app '00001111-aaaa-2222-bbbb-3333cccc4444' are expired.","error_codes":[7000222]}`}
		fabrikam := diagnosed(t, &service{clock: 7 * time.Minute, refused: map[string]script{graphScope: refused, apiScope: refused}}, usual...)
		fabrikam.Tenant = "fabrikam"
		if text := table(t, contoso, fabrikam); !strings.Contains(string(page), text) {
			t.Errorf("docs/troubleshooting.md does not contain this:\n%s", text)
		}
	})
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestClockIsComparedIfOneResponseHasADate(t *testing.T) {
	for _, silent := range []string{graphScope, apiScope} {
		synctest.Test(t, func(t *testing.T) {
			api := &service{clock: 11 * time.Minute}
			d := diagnosed(t, transportFunc(func(r *http.Request) (*http.Response, error) {
				response, err := api.RoundTrip(r)
				if r.FormValue("scope") == silent {
					response.Header.Del("Date")
				}
				return response, err
			}))
			if text := table(t, d); !strings.Contains(text, "this machine is 11m0s behind the sign-in host") {
				t.Errorf("the clock is not compared without a Date in the response for %s:\n%s", silent, text)
			}
		})
	}
}
