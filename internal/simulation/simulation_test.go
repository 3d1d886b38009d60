package simulation_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// servedTenant is a simulated tenant that is served, and an HTTP client that
// trusts it.
type servedTenant struct {
	*simulation.Tenant
	*simulation.Server
	client *http.Client
}

func serve(t testing.TB, o simulation.Options, l simulation.ListenOptions) *servedTenant {
	t.Helper()
	tenant := simulation.New(o)
	server, err := tenant.Listen(l)
	if err != nil {
		t.Fatal(err)
	}
	transport := server.Transport()
	transport.DisableCompression = true // one test requests it; it is slow with the race detector
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
	})
	return &servedTenant{tenant, server, client}
}

const (
	graphScope = "https://graph.microsoft.com/.default"
	apiScope   = "https://api.securitycenter.microsoft.com/.default"
)

func (f *servedTenant) form(scope string) url.Values {
	return url.Values{
		"grant_type":    {"client_credentials"},
		"client_id":     {f.ClientID()},
		"client_secret": {f.ClientSecret()},
		"scope":         {scope},
	}
}

type result struct {
	status int
	header http.Header
	body   []byte
	err    error // of the request, or of reading the body
}

func (a result) decode(t testing.TB, v any) {
	t.Helper()
	if a.err != nil {
		t.Fatal(a.err)
	}
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%v in %.300s", err, a.body)
	}
}

func (a result) object(t testing.TB) map[string]any {
	t.Helper()
	var v map[string]any
	a.decode(t, &v)
	return v
}

func (f *servedTenant) do(t testing.TB, r *http.Request) result {
	t.Helper()
	response, err := f.client.Do(r)
	if err != nil {
		return result{err: err}
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	return result{response.StatusCode, response.Header, body, err}
}

func (f *servedTenant) signIn(t testing.TB, form url.Values) result {
	t.Helper()
	return f.post(t, f.LoginURL+"/"+f.TenantID()+"/oauth2/v2.0/token", form)
}

func (f *servedTenant) post(t testing.TB, target string, form url.Values) result {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return f.do(t, r)
}

func (f *servedTenant) token(t testing.TB, scope string) string {
	t.Helper()
	var v struct {
		Token string `json:"access_token"`
	}
	a := f.signIn(t, f.form(scope))
	if a.status != http.StatusOK {
		t.Fatalf("sign in: %d %s", a.status, a.body)
	}
	a.decode(t, &v)
	return v.Token
}

func (f *servedTenant) get(t testing.TB, target, token string) result {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return f.do(t, r)
}

// api calls a Defender API with a new token.
func (f *servedTenant) api(t testing.TB, path string) result {
	t.Helper()
	return f.get(t, f.APIURL+path, f.token(t, apiScope))
}

const statesPath = "/testwdatppreview/machinesecuritystates"

// states calls the preview with a new token.
func (f *servedTenant) states(t testing.TB) result {
	t.Helper()
	return f.get(t, f.GraphURL+statesPath, f.token(t, graphScope))
}

// rows returns the rows of a page.
func rows(t testing.TB, a result) []map[string]any {
	t.Helper()
	var v struct{ Value []map[string]any }
	if a.status != http.StatusOK {
		t.Fatalf("status %d, %s", a.status, a.body)
	}
	a.decode(t, &v)
	if v.Value == nil {
		t.Fatalf("no value in %.300s", a.body)
	}
	return v.Value
}

// idsOf returns the machine ids of a page. It is much cheaper than rows.
func idsOf(t testing.TB, a result) []string {
	t.Helper()
	if a.status != http.StatusOK || a.err != nil {
		t.Fatalf("status %d, %v, %.300s", a.status, a.err, a.body)
	}
	key := `"id":"`
	if strings.Contains(string(a.body), `"machineId":"`) {
		key = `"machineId":"`
	}
	var found []string
	for _, row := range strings.Split(string(a.body), key)[1:] {
		found = append(found, row[:40])
	}
	return found
}

// linkOf returns a page's nextLink.
func linkOf(a result) string {
	_, rest, _ := strings.Cut(string(a.body), `"@odata.nextLink":"`)
	link, _, _ := strings.Cut(rest, `"`)
	return link
}

func countDistinct(ids []string) int {
	set := map[string]bool{}
	for _, id := range ids {
		set[id] = true
	}
	return len(set)
}

func errorCode(t testing.TB, a result) string {
	t.Helper()
	var v struct{ Error struct{ Code string } }
	a.decode(t, &v)
	return v.Error.Code
}
