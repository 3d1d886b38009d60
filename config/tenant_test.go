package config_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/config"
)

func TestCredentials(t *testing.T) {
	ids := "tenant_id: " + tenantID + ", client_id: " + clientID
	path := write(t, map[string]string{"mde.yml": `tenants:
- name: a
  azuread: {oauth: {` + ids + `, client_secret: hush}}
- name: b
  azuread: {oauth: {` + ids + `, client_secret_file: secrets/b}}
- name: c
  azuread: {certificate: {` + ids + `, certificate_path: /c.pem, certificate_key_path: ../c.key}}
- name: d
  azuread: {workload_identity: {` + ids + `, token_file_path: token}}
- name: e
  azuread: {managed_identity: {}}
- name: f
  azuread: {managed_identity: {client_id: ` + clientID + `}}
`})
	dir := filepath.Dir(path)
	environment := map[string]string{"IDENTITY_ENDPOINT": "http://127.0.0.1:42356/msi/token", "IDENTITY_HEADER": "hush", "IMDS_ENDPOINT": "http://127.0.0.1:40342"}
	c, err := config.Load(path, config.Overrides{Getenv: func(name string) string { return environment[name] }})
	if err != nil {
		t.Fatal(err)
	}
	want := []client.Credential{
		client.ClientSecret{TenantID: tenantID, ClientID: clientID, Secret: "hush"},
		client.ClientSecret{TenantID: tenantID, ClientID: clientID, SecretFile: filepath.Join(dir, "secrets/b")},
		client.Certificate{
			TenantID: tenantID, ClientID: clientID,
			CertificatePath: "/c.pem", KeyPath: filepath.Join(filepath.Dir(dir), "c.key"),
		},
		client.WorkloadIdentity{TenantID: tenantID, ClientID: clientID, TokenFilePath: filepath.Join(dir, "token")},
		client.ManagedIdentity{Endpoint: "http://127.0.0.1:42356/msi/token", Header: "hush", IMDSEndpoint: "http://127.0.0.1:40342"},
		client.ManagedIdentity{ClientID: clientID, Endpoint: "http://127.0.0.1:42356/msi/token", Header: "hush", IMDSEndpoint: "http://127.0.0.1:40342"},
	}
	for i, tenant := range c.Tenants {
		if got := options(t, tenant).Credential; got != want[i] {
			t.Errorf("tenant %s: credential %#v, want %#v", tenant.Name, got, want[i])
		}
	}
}

func options(t *testing.T, tenant *config.Tenant) client.Options {
	t.Helper()
	o, err := tenant.ClientOptions()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestCloudEndpointsAndScopes(t *testing.T) {
	for _, test := range []struct {
		name, cloud, endpoints string
		want                   [5]string
	}{
		{"no cloud", "", "", [5]string{
			"https://login.microsoftonline.com", "https://graph.microsoft.com", "https://api.security.microsoft.com",
			"https://graph.microsoft.com/.default", "https://api.securitycenter.microsoft.com/.default",
		}},
		{"commercial cloud", "AzurePublic", "", [5]string{
			"https://login.microsoftonline.com", "https://graph.microsoft.com", "https://api.security.microsoft.com",
			"https://graph.microsoft.com/.default", "https://api.securitycenter.microsoft.com/.default",
		}},
		{"GCC", "AzureGCC", "", [5]string{
			"https://login.microsoftonline.com", "https://graph.microsoft.com", "https://api-gcc.securitycenter.microsoft.us",
			"https://graph.microsoft.com/.default", "https://api-gcc.securitycenter.microsoft.us/.default",
		}},
		{"GCC High", "AzureGovernment", "", [5]string{
			"https://login.microsoftonline.us", "https://graph.microsoft.us", "https://api-gov.securitycenter.microsoft.us",
			"https://graph.microsoft.us/.default", "https://api-gov.securitycenter.microsoft.us/.default",
		}},
		{"Department of Defense, with a separate Graph", "AzureGovernment", "graph_url: https://dod-graph.microsoft.us", [5]string{
			"https://login.microsoftonline.us", "https://dod-graph.microsoft.us", "https://api-gov.securitycenter.microsoft.us",
			"https://dod-graph.microsoft.us/.default", "https://api-gov.securitycenter.microsoft.us/.default",
		}},
		{"regional host with the cloud's scope", "AzurePublic", "api_url: https://EU.api.security.microsoft.com/", [5]string{
			"https://login.microsoftonline.com", "https://graph.microsoft.com", "https://eu.api.security.microsoft.com",
			"https://graph.microsoft.com/.default", "https://api.securitycenter.microsoft.com/.default",
		}},
		{"loopback hosts", "AzurePublic", "login_url: http://localhost:1, graph_url: 'http://[::1]:2', api_url: http://127.0.0.2:3, api_scope: api://mde/.default", [5]string{
			"http://localhost:1", "http://[::1]:2", "http://127.0.0.2:3",
			"https://graph.microsoft.com/.default", "api://mde/.default",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cloud := ""
			if test.cloud != "" {
				cloud = "cloud: " + test.cloud + ", "
			}
			c := load(t, "tenants:\n- azuread: {"+cloud+"oauth: "+oauth+"}\n  endpoints: {"+test.endpoints+"}\n")
			o := options(t, c.Tenants[0])
			got := [5]string{o.LoginURL.String(), o.GraphURL.String(), o.APIURL.String(), o.GraphScope, o.APIScope}
			if got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

const withSecrets = `tenants:
- name: a
  azuread: {oauth: {tenant_id: ` + tenantID + `, client_id: ` + clientID + `, client_secret: hush}}
  http_config: {proxy_url: "http://me:hush@127.0.0.1:3128"}
  watched_domains: {domains: [a.example]}
`

func TestPrintedConfigurationMasksSecrets(t *testing.T) {
	c := load(t, withSecrets)
	marshalled, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("loaded", "config", c, "tenant", c.Tenants[0], "value", *c.Tenants[0])
	}
	printed := map[string]string{"YAML": string(marshalled), "String": c.String(), "slog": log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		printed[verb] = fmt.Sprintf(verb+verb+verb+verb, c, *c, c.Tenants[0], *c.Tenants[0])
	}
	for how, text := range printed {
		if strings.Contains(text, "hush") || strings.Contains(text, fmt.Sprintf("%x", "hush")) {
			t.Errorf("%s prints a secret:\n%s", how, text)
		}
	}
	for _, want := range []string{"client_secret: <secret>", "proxy_url: http://me:<secret>@127.0.0.1:3128"} {
		if !strings.Contains(c.String(), want) {
			t.Errorf("no %q in\n%s", want, c)
		}
	}
}

func TestPrintedConfigurationCanBeLoaded(t *testing.T) {
	ca := newAuthority(t)
	path := write(t, map[string]string{
		"mde.yml": strings.NewReplacer("client_secret: hush", "client_secret_file: secret", "me:hush@", "").Replace(withSecrets) +
			"  security_states: {refresh_interval: 90s}\n- name: b\n  azuread: {cloud: AzureGovernment, managed_identity: {client_id: " + clientID +
			"}}\n  http_config: {tls_config: {ca_file: ca.pem, min_version: TLS13}, enable_http2: false}\n  watched_domains: {files: ['*.txt']}\n",
		"ca.pem": ca.pem(),
	})
	first := mustLoad(t, path)
	second := load(t, first.String())
	if diff := cmp.Diff(first.String(), second.String()); diff != "" {
		t.Errorf("printed configuration differs after loading (-first +second):\n%s", diff)
	}
	for i, tenant := range first.Tenants {
		if !tenant.Equal(second.Tenants[i]) {
			t.Errorf("tenant %s differs after loading", tenant.Name)
		}
	}
}

func TestTenantChanges(t *testing.T) {
	const base = `tenants:
- name: a
  request_timeout: 1m
  azuread: {oauth: {tenant_id: ` + tenantID + `, client_id: ` + clientID + `, client_secret: hush}}
  endpoints: {api_url: https://eu.api.security.microsoft.com}
  http_config: {proxy_url: "http://me:hush@127.0.0.1:3128"}
  security_states: {source: auto}
  watched_domains: {domains: [a.example, b.example], statistics: false}
  quota: {calls_per_minute: 100}
`
	for _, test := range []struct {
		name, old, new                  string
		sameClient, sameStates, sameAll bool
	}{
		{"nothing", "", "", true, true, true},
		{"order of the list", "a.example, b.example", "B.example., a.example, a.example", true, true, true},
		{"a comment", "tenants:", "# ours\ntenants:", true, true, true},
		{"secret", "client_secret: hush", "client_secret: hush2", false, true, false},
		{"proxy password", "me:hush", "me:hush2", false, true, false},
		{"endpoint", "https://eu.", "https://uk.", false, true, false},
		{"timeout", "1m", "2m", false, true, false},
		{"quota", "100", "99", false, true, false},
		{"source", "source: auto", "source: machines", true, false, false},
		{"list", "b.example", "c.example", true, true, false},
		{"statistics", "statistics: false", "statistics: true", true, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(base, test.old) {
				t.Fatalf("no %q in the configuration", test.old)
			}
			a, b := load(t, base).Tenants[0], load(t, strings.Replace(base, test.old, test.new, 1)).Tenants[0]
			if got := a.SameClient(b); got != test.sameClient {
				t.Errorf("SameClient = %t, want %t", got, test.sameClient)
			}
			if got := reflect.DeepEqual(a.SecurityStates, b.SecurityStates); got != test.sameStates {
				t.Errorf("same security states = %t, want %t", got, test.sameStates)
			}
			if got := a.Equal(b); got != test.sameAll {
				t.Errorf("Equal = %t, want %t", got, test.sameAll)
			}
		})
	}
}

func TestParse(t *testing.T) {
	const text = `tenants:
- name: demo
  azuread: {oauth: ` + oauth + `}
  endpoints: {login_url: http://127.0.0.1:1, graph_url: http://127.0.0.1:2, api_url: http://127.0.0.1:3}
  security_states: {refresh_interval: %s}
  watched_domains: {domains: [%s], statistics: true}
`
	c, err := config.Parse(fmt.Sprintf(text, "5s", "b.example, A.example"), config.Overrides{WatchedDomains: []string{"c.example"}})
	if err != nil {
		t.Fatal(err)
	}
	got := c.Tenants[0]
	want := load(t, `tenants:
- name: demo
  azuread: {oauth: `+oauth+`}
  endpoints: {login_url: http://127.0.0.1:1, graph_url: http://127.0.0.1:2, api_url: http://127.0.0.1:3}
  security_states: {refresh_interval: 5s}
  watched_domains: {domains: [a.example, b.example, c.example], statistics: true}
`).Tenants[0]
	if !got.Equal(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	_, err = config.Parse(fmt.Sprintf(text, "-1s", "'*'"), config.Overrides{})
	if problems := lines(err, "."); len(problems) != 2 {
		t.Errorf("got %v, want two mistakes", problems)
	}
}
