package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/config"
)

func fromEnvironment(environment map[string]string, e config.Endpoints, o config.Overrides) (*config.Config, error) {
	return config.FromEnvironment(func(name string) string { return environment[name] }, e, o)
}

func TestFromEnvironment(t *testing.T) {
	for _, test := range []struct {
		name        string
		environment map[string]string
		want        client.Credential
	}{
		{"secret", map[string]string{"AZURE_CLIENT_SECRET": "hush"},
			client.ClientSecret{TenantID: tenantID, ClientID: clientID, Secret: "hush"}},
		{"certificate", map[string]string{"AZURE_CLIENT_CERTIFICATE_PATH": "c.pem"},
			client.Certificate{TenantID: tenantID, ClientID: clientID, CertificatePath: "c.pem"}},
		{"federated token", map[string]string{"AZURE_FEDERATED_TOKEN_FILE": "/token"},
			client.WorkloadIdentity{TenantID: tenantID, ClientID: clientID, TokenFilePath: "/token"}},
		{"secret takes precedence", map[string]string{
			"AZURE_FEDERATED_TOKEN_FILE": "/token", "AZURE_CLIENT_CERTIFICATE_PATH": "c.pem", "AZURE_CLIENT_SECRET": "hush",
		}, client.ClientSecret{TenantID: tenantID, ClientID: clientID, Secret: "hush"}},
		{"certificate takes precedence over a federated token", map[string]string{
			"AZURE_FEDERATED_TOKEN_FILE": "/token", "AZURE_CLIENT_CERTIFICATE_PATH": "c.pem",
		}, client.Certificate{TenantID: tenantID, ClientID: clientID, CertificatePath: "c.pem"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.environment["AZURE_TENANT_ID"], test.environment["AZURE_CLIENT_ID"] = tenantID, clientID
			c, err := fromEnvironment(test.environment, config.Endpoints{}, config.Overrides{WatchedDomains: []string{"Evil.example"}})
			if err != nil {
				t.Fatal(err)
			}
			tenant := c.Tenants[0]
			if got := options(t, tenant).Credential; got != test.want {
				t.Errorf("credential %#v, want %#v", got, test.want)
			}
			if tenant.Name != tenantID {
				t.Errorf("name %q, want the tenant id", tenant.Name)
			}
			if diff := cmp.Diff([]string{"evil.example"}, tenant.WatchedDomains.Domains); diff != "" {
				t.Errorf("domains (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEnvironmentEndpoints(t *testing.T) {
	const login, gov = "https://login.microsoftonline.com", "https://login.microsoftonline.us"
	for _, test := range []struct {
		name, authority string
		endpoints       config.Endpoints
		want            [5]string
	}{
		{"default", "", config.Endpoints{}, [5]string{
			login, "https://graph.microsoft.com", "https://api.security.microsoft.com",
			"https://graph.microsoft.com/.default", "https://api.securitycenter.microsoft.com/.default",
		}},
		{"authority of the government cloud", gov + "/", config.Endpoints{}, [5]string{
			gov, "https://graph.microsoft.us", "https://api-gov.securitycenter.microsoft.us",
			"https://graph.microsoft.us/.default", "https://api-gov.securitycenter.microsoft.us/.default",
		}},
		{"authority in capitals", strings.ToUpper(gov), config.Endpoints{}, [5]string{
			gov, "https://graph.microsoft.us", "https://api-gov.securitycenter.microsoft.us",
			"https://graph.microsoft.us/.default", "https://api-gov.securitycenter.microsoft.us/.default",
		}},
		{"API of GCC", login + "/", config.Endpoints{APIURL: "https://api-gcc.securitycenter.microsoft.us"}, [5]string{
			login, "https://graph.microsoft.com", "https://api-gcc.securitycenter.microsoft.us",
			"https://graph.microsoft.com/.default", "https://api-gcc.securitycenter.microsoft.us/.default",
		}},
		{"flags", gov, config.Endpoints{LoginURL: "http://127.0.0.1:1", GraphURL: "http://127.0.0.1:2/", APIURL: "http://127.0.0.1:3"}, [5]string{
			"http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3",
			"https://graph.microsoft.com/.default", "https://api.securitycenter.microsoft.com/.default",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := fromEnvironment(map[string]string{
				"AZURE_TENANT_ID": tenantID, "AZURE_CLIENT_ID": clientID, "AZURE_CLIENT_SECRET": "hush", "AZURE_AUTHORITY_HOST": test.authority,
			}, test.endpoints, config.Overrides{})
			if err != nil {
				t.Fatal(err)
			}
			o := options(t, c.Tenants[0])
			got := [5]string{o.LoginURL.String(), o.GraphURL.String(), o.APIURL.String(), o.GraphScope, o.APIScope}
			if got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestEnvironmentMistakes(t *testing.T) {
	for _, test := range []struct {
		name        string
		environment map[string]string
		endpoints   config.Endpoints
		want        []string
	}{
		{"only the secret", map[string]string{"AZURE_CLIENT_SECRET": "hush"}, config.Endpoints{},
			[]string{"AZURE_TENANT_ID: missing", "AZURE_CLIENT_ID: missing"}},
		{"only the ids", map[string]string{"AZURE_TENANT_ID": tenantID, "AZURE_CLIENT_ID": clientID}, config.Endpoints{},
			[]string{"AZURE_CLIENT_SECRET: missing: set it, AZURE_CLIENT_CERTIFICATE_PATH or AZURE_FEDERATED_TOKEN_FILE"}},
		{"only the tenant id", map[string]string{"AZURE_TENANT_ID": tenantID}, config.Endpoints{},
			[]string{"AZURE_CLIENT_SECRET: missing: set it, AZURE_CLIENT_CERTIFICATE_PATH or AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID: missing"}},
		{"invalid ids", map[string]string{"AZURE_TENANT_ID": "me/you", "AZURE_CLIENT_ID": "me ", "AZURE_FEDERATED_TOKEN_FILE": "t"}, config.Endpoints{},
			[]string{
				`AZURE_TENANT_ID: is neither a tenant id such as 00000000-0000-0000-0000-000000000000 nor a domain such as contoso.onmicrosoft.com`,
				`AZURE_CLIENT_ID: is not an application (client) id such as 00000000-0000-0000-0000-000000000000`,
			}},
		{"invalid hosts", map[string]string{
			"AZURE_TENANT_ID": tenantID, "AZURE_CLIENT_ID": clientID, "AZURE_CLIENT_SECRET": "hush", "AZURE_AUTHORITY_HOST": "login.example",
		}, config.Endpoints{GraphURL: "http://graph.example", APIURL: "https://api.example/v1"}, []string{
			"AZURE_AUTHORITY_HOST: not the URL of a host, such as https://api.example.com",
			"--graph-url: plain http is only allowed for loopback addresses: use https",
			"--api-url: must end after the host: no path, query or fragment",
		}},
		{"no URLs", map[string]string{
			"AZURE_TENANT_ID": tenantID, "AZURE_CLIENT_ID": clientID, "AZURE_CLIENT_SECRET": "hush", "AZURE_AUTHORITY_HOST": "https://login:port",
		}, config.Endpoints{GraphURL: "https://[graph", APIURL: "https://api.example\n"}, []string{
			"AZURE_AUTHORITY_HOST: not the URL of a host, such as https://api.example.com",
			"--graph-url: not the URL of a host, such as https://api.example.com",
			"--api-url: not the URL of a host, such as https://api.example.com",
		}},
		{"invalid name", map[string]string{
			"AZURE_TENANT_ID": tenantID, "AZURE_CLIENT_ID": clientID, "AZURE_CLIENT_SECRET": "hush", "AZURE_TENANT_NAME": "a\nb",
		}, config.Endpoints{}, []string{"AZURE_TENANT_NAME: must be text without control characters"}},
		{"invalid flag", map[string]string{
			"AZURE_TENANT_ID": tenantID, "AZURE_CLIENT_ID": clientID, "AZURE_CLIENT_SECRET": "hush", "AZURE_AUTHORITY_HOST": "login.example",
		}, config.Endpoints{LoginURL: "ftp://login.example"}, []string{"--login-url: must begin with https://"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := fromEnvironment(test.environment, test.endpoints, config.Overrides{})
			if c != nil {
				t.Errorf("got a configuration:\n%s", c)
			}
			if _, ok := errors.AsType[config.Problems](err); !ok {
				t.Fatalf("got %v, want Problems", err)
			}
			if diff := cmp.Diff(test.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEnvironmentWithoutTenant(t *testing.T) {
	_, err := fromEnvironment(map[string]string{"AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/"}, config.Endpoints{}, config.Overrides{})
	if !errors.Is(err, config.ErrNoEnvironment) {
		t.Errorf("got %v, want ErrNoEnvironment", err)
	}
	for _, name := range []string{"AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_FEDERATED_TOKEN_FILE"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%q does not name %s", err, name)
		}
	}
}

func TestTenantNameFromEnvironment(t *testing.T) {
	for _, test := range []struct{ name, want string }{
		{"", tenantID},
		{"contoso", "contoso"},
		{"Côte d'Azur", "Côte d'Azur"},
	} {
		c, err := fromEnvironment(map[string]string{
			"AZURE_TENANT_ID": tenantID, "AZURE_CLIENT_ID": clientID, "AZURE_CLIENT_SECRET": "hush", "AZURE_TENANT_NAME": test.name,
		}, config.Endpoints{}, config.Overrides{})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Tenants[0].Name; got != test.want {
			t.Errorf("AZURE_TENANT_NAME=%q: labeled %q, want %q", test.name, got, test.want)
		}
	}
}
