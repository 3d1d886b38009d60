package client_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/mde-exporter/mde_exporter/client"
)

// farEnd is a sign-in host, a Graph and a Defender API in one: a token request
// gets a token that names its audience, everything else goes to the handler.
func farEnd(t *testing.T, handler http.Handler) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /tenant/oauth2/v2.0/token", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"access_token":"token of ` + r.FormValue("scope") + `","token_type":"Bearer","expires_in":3600}`))
	})
	mux.Handle("/", handler)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

func options(t *testing.T, server *httptest.Server) client.Options {
	t.Helper()
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return client.Options{
		LoginURL: u, GraphURL: u, APIURL: u,
		GraphScope: "graph", APIScope: "api",
		Credential: client.ClientSecret{TenantID: "tenant", ClientID: "app", Secret: "not a secret"},
	}
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

func TestSecurityStatesAreReadToTheEndOfTheChain(t *testing.T) {
	server := farEnd(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got, want := r.Header.Get("Authorization"), "Bearer token of graph"; got != want {
			t.Errorf("authorization %q, want %q", got, want)
		}
		link := `,"@odata.nextLink":"http://` + r.Host + `/testwdatppreview/machinesecuritystates?$skiptoken=2"`
		if r.URL.RawQuery != "" {
			link = ""
		}
		_, _ = w.Write([]byte(`{"value":[{"id":"a","build":14393,"architecture":"Amd64","propertiesRequireAttention":["One","T\u0077o"]},null]` + link + `}`))
	}))
	c := newClient(t, options(t, server))
	var got []string
	for state, err := range c.SecurityStates(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(state.Build))
		for _, p := range state.Properties {
			got = append(got, string(p))
		}
	}
	want := []string{"14393", "One", "Two", "", "14393", "One", "Two", ""}
	if len(got) != len(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}
