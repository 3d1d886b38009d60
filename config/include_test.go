package config_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/config"
)

// credentials loads files and returns the credentials by tenant name.
func credentials(t *testing.T, files map[string]string) (map[string]client.Credential, string) {
	t.Helper()
	path := write(t, files)
	c, err := config.Load(path, config.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]client.Credential{}
	for _, tenant := range c.Tenants {
		got[tenant.Name] = options(t, tenant).Credential
	}
	return got, filepath.Dir(path)
}

func TestTenantCredentialIsMergedWithTheGlobalOne(t *testing.T) {
	const other = "33333333-3333-4333-8333-333333333333"
	got, _ := credentials(t, map[string]string{"mde.yml": `
global:
  azuread:
    cloud: AzureGovernment
    oauth: {client_id: ` + clientID + `, client_secret: hush, client_secret_expires: 2027-01-31}
tenants:
- name: shares
  azuread: {oauth: {tenant_id: a}}
- name: other app
  azuread: {oauth: {tenant_id: b, client_id: ` + other + `}}
- name: other form
  azuread: {oauth: {tenant_id: c, client_secret_file: /c}}
- name: other secret
  azuread: {oauth: {tenant_id: d, client_secret: quiet, client_secret_expires: "2028-02-29T10:00:00Z"}}
- name: other method
  azuread: {certificate: {tenant_id: e, client_id: ` + other + `, certificate_path: /e}}
- name: empty keys
  azuread: {oauth: {tenant_id: f, client_secret: }, certificate: }
- name: other identity
  azuread: {managed_identity: {}}
`})
	day := time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)
	want := map[string]client.Credential{
		"shares":         client.ClientSecret{TenantID: "a", ClientID: clientID, Secret: "hush", Expires: day},
		"other app":      client.ClientSecret{TenantID: "b", ClientID: other, Secret: "hush", Expires: day},
		"other form":     client.ClientSecret{TenantID: "c", ClientID: clientID, SecretFile: "/c"},
		"other secret":   client.ClientSecret{TenantID: "d", ClientID: clientID, Secret: "quiet", Expires: time.Date(2028, 2, 29, 10, 0, 0, 0, time.UTC)},
		"other method":   client.Certificate{TenantID: "e", ClientID: other, CertificatePath: "/e"},
		"empty keys":     client.ClientSecret{TenantID: "f", ClientID: clientID, Secret: "hush", Expires: day},
		"other identity": client.ManagedIdentity{},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(client.ManagedIdentity{})); diff != "" {
		t.Errorf("credentials (-want +got):\n%s", diff)
	}
}

func TestTenantReplacesTheGlobalCertificatePassword(t *testing.T) {
	got, dir := credentials(t, map[string]string{"mde.yml": `
global:
  azuread:
    certificate: {client_id: ` + clientID + `, certificate_path: app.pfx, certificate_password_file: password}
tenants:
- azuread: {certificate: {tenant_id: a}}
- azuread: {certificate: {tenant_id: b, certificate_password: hush}}
`})
	path := filepath.Join(dir, "app.pfx")
	want := map[string]client.Credential{
		"a": client.Certificate{TenantID: "a", ClientID: clientID, CertificatePath: path, PasswordFile: filepath.Join(dir, "password")},
		"b": client.Certificate{TenantID: "b", ClientID: clientID, CertificatePath: path, Password: "hush"},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(client.ManagedIdentity{})); diff != "" {
		t.Errorf("credentials (-want +got):\n%s", diff)
	}
}

func TestTenantHTTPConfigIsMergedWithTheGlobalOne(t *testing.T) {
	c := load(t, `
global:
  http_config: {proxy_url: http://proxy.example, enable_http2: false, tls_config: {server_name: a.example}}
tenants:
- name: shares
  azuread: {oauth: `+oauth+`}
- name: differs
  azuread: {oauth: `+oauth+`}
  http_config: {enable_http2: true, tls_config: {min_version: TLS12}}
- name: direct
  azuread: {oauth: `+oauth+`}
  http_config: {proxy_url: ""}
`)
	var got []string
	for _, tenant := range c.Tenants {
		h := tenant.HTTPConfig
		http2 := "http1"
		if h.EnableHTTP2 {
			http2 = "http2"
		}
		got = append(got, strings.Join([]string{string(h.ProxyURL), http2, h.TLSConfig.ServerName, h.TLSConfig.MinVersion.String()}, " "))
	}
	want := []string{"http://proxy.example http1 a.example ", "http://proxy.example http2 a.example TLS12", " http1 a.example "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("http_config (-want +got):\n%s", diff)
	}
}

func TestTenantFiles(t *testing.T) {
	got, dir := credentials(t, map[string]string{
		"mde.yml": `
x-app: &app {client_id: ` + clientID + `}
x-app-2: text
global:
  azuread: {oauth: {<<: *app, client_secret_file: secrets/app}}
  watched_domains: {files: [watched/*.txt]}
tenants:
- name: contoso
  azuread: {oauth: {tenant_id: contoso.example}}
tenant_files: [tenants/*.yml, none/*.yml, tenants/fabrikam.yml]
`,
		"tenants/fabrikam.yml":  "x-note: [a]\nname: fabrikam\nazuread: {oauth: {tenant_id: fabrikam.example}}\n",
		"tenants/northwind.yml": "name: northwind\nazuread: {oauth: {tenant_id: northwind.example, client_secret_file: secret}}\nwatched_domains: {files: [own.txt]}\n",
		"tenants/.hidden.yml":   "{",
	})
	secret := func(tenant, path string) client.Credential {
		return client.ClientSecret{TenantID: tenant + ".example", ClientID: clientID, SecretFile: filepath.Join(dir, path)}
	}
	want := map[string]client.Credential{
		"contoso":   secret("contoso", "secrets/app"),
		"fabrikam":  secret("fabrikam", "secrets/app"),
		"northwind": secret("northwind", "tenants/secret"),
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(client.ManagedIdentity{})); diff != "" {
		t.Errorf("credentials (-want +got):\n%s", diff)
	}
	c, err := config.Load(filepath.Join(dir, "mde.yml"), config.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	files := []string{filepath.Join(dir, "tenants/own.txt"), filepath.Join(dir, "watched/*.txt")}
	if diff := cmp.Diff(files, c.Tenants[2].WatchedDomains.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestTenantFileMistakesHaveFileAndLine(t *testing.T) {
	path := write(t, map[string]string{
		"mde.yml": `
x-anything: {any: thing}
global:
  azuread: {oauth: {client_id: no id, client_secret: hush}}
  x-here: 1
tenants:
- name: contoso
  azuread: {oauth: {tenant_id: a}}
tenant_files: [tenants/*.yml, missing.yml, "bad[", "", "a\nb"]
`,
		"tenants/a.yml": "",
		"tenants/g.yml": "name: g\nazuread: {oauth: {tenant_id: g, client_secret_file: \"a\\nb\"}}\n",
		"tenants/b.yml": "name: contoso\nazuread:\n  oauth: {tenant_id: common}\n",
		"tenants/c.yml": "name: c\nquota:\n  calls_per_minute: 0\nazuread: {oauth: {tenant_id: c, client_secret_expires: soon}}\n",
		"tenants/d.yml": "tenants:\n- name: d\n",
		"tenants/e.yml": "[a]\n",
		"tenants/f.yml": "a: b: c\n",
	})
	_, err := config.Load(path, config.Overrides{})
	if err == nil {
		t.Fatal("no mistakes")
	}
	got := strings.Split(strings.ReplaceAll(filepath.ToSlash(err.Error()), filepath.ToSlash(filepath.Dir(path))+"/", ""), "\n")
	want := []string{
		"mde.yml:4: global.azuread.oauth.client_id: is not an application (client) id such as 00000000-0000-0000-0000-000000000000",
		"mde.yml:5: global: unknown key; valid keys: azuread, http_config, request_timeout, security_states, watched_domains, scores, alerts, quota",
		"mde.yml:9: tenant_files[2]: bad[: not a valid pattern of file names",
		"mde.yml:9: tenant_files[3]: an empty name",
		"mde.yml:9: tenant_files[4]: must be the path of a file, without line breaks or control characters",
		"mde.yml:9: tenant_files[1]: missing.yml: no such file or directory",
		"tenants/a.yml:1: empty: it must contain the keys of one tenant",
		"tenants/b.yml:1: name: is also the name of tenants[0]",
		"tenants/b.yml:3: azuread.oauth.tenant_id: is not a single tenant: use the tenant's id",
		"tenants/c.yml:3: quota.calls_per_minute: 0 is not between 1 and 100000",
		"tenants/c.yml:4: azuread.oauth.client_secret_expires: is not a date such as 2027-01-31",
		"tenants/d.yml:1: unknown key; valid keys: name, azuread, endpoints, http_config, request_timeout, security_states, watched_domains, scores, alerts, quota",
		"tenants/d.yml:1: azuread.oauth.tenant_id: missing",
		"tenants/e.yml:1: must be a mapping of keys to values",
		"tenants/f.yml:1: not valid YAML: a key where none is expected: check the indentation, and quote text that contains a colon and a space",
		"tenants/g.yml:2: azuread.oauth.client_secret_file: must be the path of a file, without line breaks or control characters",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mistakes (-want +got):\n%s", diff)
	}
}

func TestCheckReadsCredentialsOfTenantFiles(t *testing.T) {
	path := write(t, map[string]string{
		"mde.yml":       "global:\n  azuread: {certificate: {client_id: " + clientID + ", certificate_path: none.pem}}\ntenant_files: [tenants/*]\n",
		"tenants/a.yml": "azuread: {certificate: {tenant_id: a}}\n",
		"tenants/b.yml": "azuread: {certificate: {tenant_id: b}}\n",
		"tenants/c.yml": "azuread:\n  oauth:\n    tenant_id: c\n    client_id: " + clientID + "\n    client_secret_file: secret\n",
	})
	_, err := config.Check(path, config.Overrides{})
	if err == nil {
		t.Fatal("no mistakes")
	}
	got := strings.Split(filepath.ToSlash(err.Error()), "\n")
	dir := filepath.ToSlash(filepath.Dir(path))
	want := []string{
		dir + "/mde.yml:2: global.azuread.certificate.certificate_path: stat " + dir + "/none.pem: no such file or directory",
		dir + "/tenants/c.yml:5: azuread.oauth.client_secret_file: stat " + dir + "/tenants/secret: no such file or directory",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mistakes (-want +got):\n%s", diff)
	}
}

func TestAllUnreadableTenantFilesAreReported(t *testing.T) {
	path := write(t, map[string]string{
		"mde.yml":       "tenant_files:\n- tenants/*.yml\n",
		"tenants/a.yml": "\xff\xfen\x00",
		"tenants/b.yml": "name: b\nazuread: {oauth: " + oauth + "}\n",
		"tenants/c.yml": "\xfe\xff\x00n",
	})
	_, err := config.Load(path, config.Overrides{})
	if err == nil {
		t.Fatal("no mistakes")
	}
	got := strings.Split(strings.ReplaceAll(filepath.ToSlash(err.Error()), filepath.ToSlash(filepath.Dir(path))+"/", ""), "\n")
	want := []string{
		"mde.yml:2: tenant_files[0]: tenants/a.yml: encoded as UTF-16: save it as UTF-8",
		"mde.yml:2: tenant_files[0]: tenants/c.yml: encoded as UTF-16: save it as UTF-8",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mistakes (-want +got):\n%s", diff)
	}
}

func TestTenantFilesExcludeTheConfigurationFile(t *testing.T) {
	got, _ := credentials(t, map[string]string{
		"mde.yml":     "tenant_files: ['*.yml', mde.yml]\n",
		"contoso.yml": "name: contoso\nazuread: {oauth: " + oauth + "}\n",
	})
	if _, found := got["contoso"]; !found || len(got) != 1 {
		t.Errorf("tenants: %v", got)
	}
}

func TestConfigurationWithoutTenantsIsRejected(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"global: {}\n", "mde.yml:1: tenants: missing: at least one tenant is needed"},
		{"global: {}\ntenant_files: [none/*.yml]\n", "mde.yml:2: tenant_files: match no file, and there are no other tenants: at least one tenant is needed"},
		{"global: {}\ntenant_files: none/*.yml\n", "mde.yml:2: tenant_files: must be a list"},
		{"global: {}\ntenant_files: [none.yml]\n", "mde.yml:2: tenant_files[0]: none.yml: no such file or directory"},
	} {
		path := write(t, map[string]string{"mde.yml": test.text})
		_, err := config.Load(path, config.Overrides{})
		if got := strings.ReplaceAll(filepath.ToSlash(fmt.Sprint(err)), filepath.ToSlash(filepath.Dir(path))+"/", ""); got != test.want {
			t.Errorf("%s: %s, want %s", test.text, got, test.want)
		}
	}
}
