package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/domains"
	"github.com/mde-exporter/mde_exporter/collector/states"
	"github.com/mde-exporter/mde_exporter/config"
)

const (
	tenantID = "11111111-1111-4111-8111-111111111111"
	clientID = "22222222-2222-4222-8222-222222222222"
	oauth    = "{tenant_id: " + tenantID + ", client_id: " + clientID + ", client_secret: hush}"
)

// write creates files in a new directory and returns the path of its mde.yml.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "mde.yml")
}

func load(t *testing.T, yaml string) *config.Config {
	t.Helper()
	c, err := config.Load(write(t, map[string]string{"mde.yml": yaml}), config.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTenantInheritsGlobalSettings(t *testing.T) {
	c := load(t, `
global:
  request_timeout: 30s
  security_states: {source: machines, refresh_interval: 10m, revision_label: true, max_machines: 5000, device_groups: false, tags: [VIP, Tier 0, vip]}
  watched_domains: {refresh_interval: 2h, max_age: 1d, domains: [b.example, A.example.]}
  quota: {calls_per_minute: 50}
tenants:
- name: first
  azuread: {oauth: `+oauth+`}
- azuread: {oauth: `+oauth+`}
  request_timeout: 1m30s
  security_states: {refresh_interval: 5m, revision_label: false, max_machines: 100, device_groups: true, tags: [Kiosk]}
  watched_domains: {enabled: false, domains: [c.example, a.example], machine_info_limit: 7}
  quota: {calls_per_hour: 900}
`)
	schedule := func(enabled bool, interval, maxAge time.Duration, continuous bool) collector.Schedule {
		return collector.Schedule{Enabled: enabled, RefreshInterval: model.Duration(interval), MaxAge: model.Duration(maxAge), Continuous: continuous}
	}
	want := []public{
		{
			Name:           "first",
			RequestTimeout: 30 * time.Second,
			SecurityStates: states.Config{
				Source: states.SourceMachines, RevisionLabel: true, Tags: []string{"VIP", "Tier 0"},
				Schedule: schedule(true, 10*time.Minute, 30*time.Minute, false), MaxMachines: 5000,
			},
			WatchedDomains: domains.Config{
				Schedule: schedule(true, 2*time.Hour, 24*time.Hour, true),
				Domains:  []string{"a.example", "b.example"},
			},
			Quota: client.Limits{CallsPerMinute: 50, CallsPerHour: 1500},
		},
		{
			Name:           tenantID,
			RequestTimeout: 90 * time.Second,
			SecurityStates: states.Config{
				Source: states.SourceMachines, DeviceGroups: true, Tags: []string{"Kiosk"},
				Schedule: schedule(true, 5*time.Minute, 15*time.Minute, false), MaxMachines: 100,
			},
			WatchedDomains: domains.Config{
				Schedule:         schedule(false, 2*time.Hour, 24*time.Hour, true),
				Domains:          []string{"a.example", "b.example", "c.example"},
				MachineInfoLimit: 7,
			},
			Quota: client.Limits{CallsPerMinute: 50, CallsPerHour: 900},
		},
	}
	if len(c.Tenants) != len(want) {
		t.Fatalf("got %d tenants, want %d", len(c.Tenants), len(want))
	}
	for i, tenant := range c.Tenants {
		if diff := cmp.Diff(want[i], publicOf(tenant), cmpopts.IgnoreUnexported(domains.Config{})); diff != "" {
			t.Errorf("tenant %d (-want +got):\n%s", i, diff)
		}
	}
}

type public struct {
	Name           string
	RequestTimeout time.Duration
	SecurityStates states.Config
	WatchedDomains domains.Config
	Quota          client.Limits
}

func publicOf(t *config.Tenant) public {
	w := t.WatchedDomains
	if len(w.Files) == 0 {
		w.Files = nil
	}
	return public{t.Name, time.Duration(t.RequestTimeout), t.SecurityStates, w, client.Limits(t.Quota)}
}

func TestMistakesAreReportedWithTheirLine(t *testing.T) {
	for _, test := range []struct {
		name string
		yaml string
		want []string
	}{
		{"empty file", "", []string{"mde.yml:1: tenants: missing: at least one tenant is needed"}},
		{"no tenants", "global: {}\n", []string{"mde.yml:1: tenants: missing: at least one tenant is needed"}},
		{"broken YAML", "tenants:\n- name: a\n - name: b\n", []string{
			"mde.yml:2: not valid YAML: did not find expected key",
		}},
		{"a secret that begins with an asterisk", "tenants: [{azuread: {oauth: {client_secret: *hush}}}]", []string{
			"mde.yml:1: an alias without its anchor: text that begins with * must be quoted",
		}},
		{"two documents", "tenants:\n- name: a\n" + azuread + "---\ntenants: []\n", []string{
			"mde.yml:4: a second YAML document: only one is allowed",
		}},
		{"unknown keys", "globl: {}\ntenants:\n- name: a\n  colour: red\n  azuread: {sdk: {}, oauth: " + oauth + "}\n", []string{
			"mde.yml:1: unknown key; valid keys: global, tenants, tenant_files",
			"mde.yml:4: tenants[0]: unknown key; valid keys: name, azuread, endpoints, http_config, request_timeout, security_states, watched_domains, scores, alerts, quota",
			"mde.yml:5: tenants[0].azuread: unknown key; valid keys: cloud, oauth, certificate, workload_identity, managed_identity",
		}},
		{"duplicate key", "tenants:\n- name: a\n" + azuread + "  name: b\n", []string{
			"mde.yml:4: tenants[0].name: already set in line 2",
		}},
		{"two merges in one mapping", "x-a: &a {quota: {calls_per_minute: 1}}\nx-b: &b {request_timeout: 1s}\ntenants:\n- name: a\n" + azuread + "  <<: *a\n  <<: *b\n", []string{
			"mde.yml:7: tenants[0]: << is already set in line 6: give one << a list of aliases",
		}},
		{"values of the wrong type", "global:\n  request_timeout: soon\n  quota: {calls_per_minute: many}\n  security_states: [1]\n  watched_domains:\n    statistics: 7\n    domains: a.example\ntenants:\n- name: {}\n" + azuread, []string{
			"mde.yml:2: global.request_timeout: is not a duration such as 90s, 15m or 1d",
			"mde.yml:3: global.quota.calls_per_minute: is not a whole number",
			"mde.yml:4: global.security_states: must be a mapping of keys to values",
			"mde.yml:6: global.watched_domains.statistics: is not true or false",
			"mde.yml:7: global.watched_domains.domains: must be a list",
			"mde.yml:9: tenants[0].name: must be text",
		}},
		{"a global value out of range is reported once", "global:\n  request_timeout: 0s\n  quota:\n    calls_per_minute: 100001\n    calls_per_hour: 0\n  security_states: {source: graph, max_machines: 0}\n  watched_domains: {machine_info_limit: 501}\ntenants:\n- name: a\n" + azuread + "- name: b\n" + azuread, []string{
			"mde.yml:2: global.request_timeout: must be longer than 0s",
			"mde.yml:4: global.quota.calls_per_minute: 100001 is not between 1 and 100000",
			"mde.yml:5: global.quota.calls_per_hour: 0 is not between 1 and 100000",
			"mde.yml:6: global.security_states.source: is not one of auto, machinesecuritystates, machines",
			"mde.yml:6: global.security_states.max_machines: 0 is not between 1 and 100000000",
			"mde.yml:7: global.watched_domains.machine_info_limit: 501 is not between 0 and 500",
		}},
		{"max_age shorter than the interval", "global:\n  security_states: {max_age: 45m}\ntenants:\n- name: a\n" + azuread + "  security_states:\n    refresh_interval: 1h\n- name: b\n" + azuread + "  watched_domains:\n    max_age: 0s\n", []string{
			"mde.yml:7: tenants[0].security_states.refresh_interval: max_age of 45m is shorter than refresh_interval of 1h: values would be withdrawn before they are refreshed",
			"mde.yml:11: tenants[1].watched_domains.max_age: max_age of 0s is shorter than refresh_interval of 1h: values would be withdrawn before they are refreshed",
		}},
		{"watch lists", `global:
  watched_domains:
    refresh_interval: 2h
    lists:
    - {name: c2, refresh_interval: 15m, max_age: 10m, domains: [a.example, http://b.example], files: ['[']}
    - {name: default, domains: [c.example]}
    - {name: c2, max_age: soon}
    - {domains: [d.example]}
    -
    - text
    - {name: ` + strings.Repeat("e", 129) + `}
    - {name: "f\n", colour: red}
    - {name: slow, max_age: 1h}
    - {name: fast, max_age: 2h}
tenants:
- name: a
  azuread: {managed_identity: {}}
  watched_domains:
    refresh_interval: 3h
    lists:
    - {name: slower, max_age: 170m}
    - {name: slower}
- name: b
  azuread: {managed_identity: {}}
`, []string{
			"mde.yml:5: global.watched_domains.lists[0].domains[1]: is a URL: only its domain can be watched",
			"mde.yml:5: global.watched_domains.lists[0].files[0]: [: not a valid pattern of file names",
			"mde.yml:5: global.watched_domains.lists[0].max_age: max_age of 10m is shorter than refresh_interval of 15m: values would be withdrawn before they are refreshed",
			"mde.yml:6: global.watched_domains.lists[1].name: is reserved for watched_domains.domains and watched_domains.files: add the domains there",
			"mde.yml:7: global.watched_domains.lists[2].max_age: is not a duration such as 90s, 15m or 1d",
			"mde.yml:7: global.watched_domains.lists[2].name: is also the name of lists[0]",
			"mde.yml:8: global.watched_domains.lists[3].name: missing",
			"mde.yml:9: global.watched_domains.lists[4].name: missing",
			"mde.yml:10: global.watched_domains.lists[5]: must be a mapping of keys to values",
			"mde.yml:11: global.watched_domains.lists[6].name: longer than 128 bytes",
			"mde.yml:12: global.watched_domains.lists[7]: unknown key; valid keys: name, refresh_interval, max_age, domains, files",
			"mde.yml:12: global.watched_domains.lists[7].name: must be text without control characters",
			"mde.yml:13: global.watched_domains.lists[8].max_age: max_age of 1h is shorter than refresh_interval of 2h: values would be withdrawn before they are refreshed",
			"mde.yml:20: tenants[0].watched_domains.lists: max_age of 2h is shorter than refresh_interval of 3h: values would be withdrawn before they are refreshed",
			"mde.yml:21: tenants[0].watched_domains.lists[0].max_age: max_age of 2h50m is shorter than refresh_interval of 3h: values would be withdrawn before they are refreshed",
			"mde.yml:22: tenants[0].watched_domains.lists[1].name: is also the name of lists[0]",
		}},
		{"names", "tenants:\n- name: a\n" + azuread + "- name: a\n" + azuread + "- name: \"b\\n\"\n" + azuread + "- name: " + strings.Repeat("c", 129) + "\n" + azuread + "- azuread: {managed_identity: {}}\n", []string{
			"mde.yml:4: tenants[1].name: is also the name of tenants[0]",
			"mde.yml:6: tenants[2].name: must be text without control characters",
			"mde.yml:8: tenants[3].name: longer than 128 bytes",
			"mde.yml:10: tenants[4].name: missing: required with a managed identity, which has no tenant id",
		}},
		{"duplicate default name", "tenants:\n-" + azuread[1:] + "-" + azuread[1:], []string{
			"mde.yml:3: tenants[1].name: is also the name of tenants[0]",
		}},
		{"sign-in", `tenants:
- name: a
- name: b
  azuread: {cloud: AzureChina, oauth: {tenant_id: common, client_id: my app}}
- name: c
  azuread:
    oauth: {tenant_id: contoso.onmicrosoft.com, client_id: ` + clientID + `, client_secret: hush, client_secret_file: f}
- name: d
  azuread:
    certificate: {tenant_id: ` + tenantID + `}
- name: e
  azuread:
    workload_identity:
      client_id: ` + clientID + `
- name: f
  azuread:
    managed_identity: {client_id: "{me}"}
    oauth: ` + oauth + `
- name: g
  azuread: {oauth: hush}
`, []string{
			"mde.yml:2: tenants[0].azuread: missing: one of oauth, certificate, workload_identity and managed_identity is needed",
			"mde.yml:4: tenants[1].azuread.cloud: is not one of AzurePublic, AzureGCC, AzureGovernment",
			"mde.yml:4: tenants[1].azuread.oauth.tenant_id: is not a single tenant: use the tenant's id",
			"mde.yml:4: tenants[1].azuread.oauth.client_id: is not an application (client) id such as 00000000-0000-0000-0000-000000000000",
			"mde.yml:4: tenants[1].azuread.oauth.client_secret: missing: set it or client_secret_file",
			"mde.yml:7: tenants[2].azuread.oauth.client_secret_file: only one of client_secret and client_secret_file can be used",
			"mde.yml:10: tenants[3].azuread.certificate.client_id: missing",
			"mde.yml:10: tenants[3].azuread.certificate.certificate_path: missing",
			"mde.yml:13: tenants[4].azuread.workload_identity.tenant_id: missing",
			"mde.yml:16: tenants[5].azuread: only one of oauth, managed_identity can be used",
			"mde.yml:17: tenants[5].azuread.managed_identity.client_id: is not an application (client) id such as 00000000-0000-0000-0000-000000000000",
			"mde.yml:20: tenants[6].azuread.oauth: must be a mapping of keys to values",
		}},
		{"endpoints", "tenants:\n- name: a\n" + azuread + `  endpoints:
    login_url: http://login.example
    graph_url: https://user:hush@graph.example
    api_url: api.example
    api_scope: https://api.example
- name: b
` + azuread + `  endpoints:
    login_url: https://login.example/tenant
    graph_url: https://graph.example?a=b
    api_url: ftp://api.example
    api_scope: .default
`, []string{
			"mde.yml:5: tenants[0].endpoints.login_url: plain http is only allowed for loopback addresses: use https",
			"mde.yml:6: tenants[0].endpoints.graph_url: must not contain a user name or password",
			"mde.yml:7: tenants[0].endpoints.api_url: not the URL of a host, such as https://api.example.com",
			"mde.yml:8: tenants[0].endpoints.api_scope: is not a scope such as https://api.securitycenter.microsoft.com/.default",
			"mde.yml:12: tenants[1].endpoints.login_url: must end after the host: no path, query or fragment",
			"mde.yml:13: tenants[1].endpoints.graph_url: must end after the host: no path, query or fragment",
			"mde.yml:14: tenants[1].endpoints.api_url: must begin with https://",
			"mde.yml:15: tenants[1].endpoints.api_scope: is not a scope such as https://api.securitycenter.microsoft.com/.default",
		}},
		{"proxy and TLS", "tenants:\n- name: a\n" + azuread + `  http_config:
    proxy_url: http://user:hush@[::1
    tls_config: {min_version: TLS9, ca: none, server_name: x}
    authorization: {credentials: hush}
- name: b
` + azuread + `  http_config:
    no_proxy: a.example
    tls_config: {cert: x, min_version: TLS13, max_version: TLS12, ca_ref: x}
- name: c
` + azuread + `  http_config:
    proxy_from_environment: true
    proxy_url: http://proxy.example
    tls_config: {min_version: TLS13, max_version: TLS12}
`, []string{
			"mde.yml:5: tenants[0].http_config.proxy_url: not the URL of a proxy, such as http://proxy.example.com:3128",
			"mde.yml:6: tenants[0].http_config.tls_config.min_version: is not one of TLS10, TLS11, TLS12, TLS13",
			"mde.yml:6: tenants[0].http_config.tls_config.ca: contains no PEM certificate",
			"mde.yml:7: tenants[0].http_config: unknown key; valid keys: proxy_url, no_proxy, proxy_from_environment, tls_config, enable_http2",
			"mde.yml:10: tenants[1].http_config: if no_proxy is configured, proxy_url must also be configured",
			"mde.yml:12: tenants[1].http_config.tls_config: unknown key; valid keys: ca, cert, key, ca_file, cert_file, key_file, server_name, insecure_skip_verify, min_version, max_version",
			"mde.yml:12: tenants[1].http_config.tls_config: exactly one of key or key_file must be configured when a client certificate is configured",
			"mde.yml:15: tenants[2].http_config: if proxy_from_environment is configured, proxy_url must not be configured",
			"mde.yml:18: tenants[2].http_config.tls_config.max_version: lower than min_version",
		}},
		{"domains", "global:\n  watched_domains:\n    domains:\n    - https://a.example/\ntenants:\n- name: a\n" + azuread + "  watched_domains:\n    domains:\n    - ok.example\n    - '*.a.example'\n    -\n    files: ['']\n", []string{
			"mde.yml:4: global.watched_domains.domains[0]: is a URL: only its domain can be watched",
			"mde.yml:11: tenants[0].watched_domains.domains[1]: contains a wildcard: list each domain",
			"mde.yml:12: tenants[0].watched_domains.domains[2]: an empty name",
			"mde.yml:13: tenants[0].watched_domains.files[0]: an empty name",
		}},
		{"invalid tenants", "tenants: [5, {azuread: {managed_identity: {}}}, ~]\n", []string{
			"mde.yml:1: tenants[0]: must be a mapping of keys to values",
			"mde.yml:1: tenants[1].name: missing: required with a managed identity, which has no tenant id",
			"mde.yml:1: tenants[2].azuread: missing: one of oauth, certificate, workload_identity and managed_identity is needed",
		}},
		{"tenants is not a list", "tenants: {name: a}\n", []string{"mde.yml:1: tenants: must be a list"}},
		{"merged keys", "tenants:\n- &a\n  name: a\n" + azuread + "  quota: {calls: 1}\n- <<: *a\n  name: b\n", []string{
			"mde.yml:5: tenants[0].quota: unknown key; valid keys: calls_per_minute, calls_per_hour",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := write(t, map[string]string{"mde.yml": test.yaml})
			c, err := config.Load(path, config.Overrides{})
			problems, ok := errors.AsType[config.Problems](err)
			if !ok || c != nil {
				t.Fatalf("got %v, %v, want no configuration and Problems", c, err)
			}
			got := strings.ReplaceAll(problems.Error(), filepath.Dir(path)+"/", "")
			if diff := cmp.Diff(test.want, strings.Split(got, "\n")); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if strings.Contains(got, "hush") {
				t.Error("message contains a secret")
			}
		})
	}
}
