package client_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// newSignedInClient returns a client of a simulated tenant with separate hosts.
func newSignedInClient(t *testing.T, tenant *simulation.Tenant, credential func(loginURL string) client.Credential) *client.Client {
	t.Helper()
	server, err := tenant.Listen(simulation.ListenOptions{Separate: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	at := func(address string) *url.URL {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	c, err := client.New(client.Options{
		LoginURL: at(server.LoginURL), GraphURL: at(server.GraphURL), APIURL: at(server.APIURL),
		GraphScope: simulation.GraphAudience + "/.default", APIScope: simulation.APIAudience + "/.default",
		Credential: credential(server.LoginURL),
		Transport:  server.Transport(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEveryCredentialTypeSignsIn(t *testing.T) {
	tenant := simulation.New(simulation.Options{Machines: 10, Roles: []string{simulation.RoleMachines, simulation.RoleStatistics, simulation.RoleScores, simulation.RoleAlerts}})
	id, app := tenant.TenantID(), tenant.ClientID()
	certificate, certificatePEM := selfSigned(t, time.Now().Add(24*time.Hour))
	tenant.RegisterCertificate(certificate)
	tenant.SetAssertions("a.federated.token")

	for name, credential := range map[string]func(string) client.Credential{
		"a client secret": func(string) client.Credential {
			return client.ClientSecret{TenantID: id, ClientID: app, Secret: tenant.ClientSecret()}
		},
		"a client secret in a file": func(string) client.Credential {
			return client.ClientSecret{TenantID: id, ClientID: app, SecretFile: file(t, tenant.ClientSecret()+"\n")}
		},
		"a certificate": func(string) client.Credential {
			return client.Certificate{TenantID: id, ClientID: app, CertificatePath: file(t, certificatePEM)}
		},
		"a workload identity": func(string) client.Credential {
			return client.WorkloadIdentity{TenantID: id, ClientID: app, TokenFilePath: file(t, "a.federated.token")}
		},
		"a managed identity of a machine": func(login string) client.Credential {
			return client.ManagedIdentity{ClientID: app, Endpoint: login + "/metadata/identity/oauth2/token"}
		},
		"a managed identity of an app service": func(login string) client.Credential {
			return client.ManagedIdentity{Endpoint: login + "/metadata/identity/oauth2/token", Header: "given"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			tenant.ForgetCalls()
			c := newSignedInClient(t, tenant, credential)
			d := client.Diagnosis{Tenant: name, Checks: c.Diagnose(t.Context(), client.Need{client.MachineSecurityStates}, client.Need{client.Machines}, client.Need{client.DomainStats})}
			for _, check := range d.Checks {
				if check.Result != client.Works {
					t.Errorf("%s: %s: %s", check.Name, check.Found, check.Remedy)
				}
			}
			if got := tenant.Count(simulation.Token); got != 2 {
				t.Errorf("%d token requests, want one for each audience", got)
			}
			if calls := tenant.Misdirected(); len(calls) != 0 {
				t.Errorf("tokens went to the wrong host: %v", calls)
			}
		})
	}
}

func TestExpiredSecretIsReportedAndReplacedWithoutRestart(t *testing.T) {
	tenant := simulation.New(simulation.Options{Machines: 10})
	path := file(t, tenant.ClientSecret())
	c := newSignedInClient(t, tenant, func(string) client.Credential {
		return client.ClientSecret{TenantID: tenant.TenantID(), ClientID: tenant.ClientID(), SecretFile: path}
	})
	read := func() error {
		for _, err := range c.Machines(t.Context()) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := read(); err != nil {
		t.Fatal(err)
	}

	tenant.ExpireSecret(tenant.ClientSecret())
	tenant.RevokeTokens()
	for range 5 {
		err := read()
		if client.ReasonOf(err) != client.ReasonAuth || !strings.Contains(fmt.Sprint(err), "AADSTS7000222") || !strings.Contains(fmt.Sprint(err), "create a new one") {
			t.Fatalf("error is %v", err)
		}
	}
	if got := tenant.Count(simulation.Token); got > 3 {
		t.Errorf("%d token requests: the rejected credential is tried too often", got)
	}

	tenant.SetSecrets("its successor")
	if err := os.WriteFile(path, []byte("its successor\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := read(); err != nil {
		t.Errorf("with the new secret: %v", err)
	}
}

func TestCredentialExpiryIsThatOfLastReadCertificate(t *testing.T) {
	tenant := simulation.New(simulation.Options{Machines: 1})
	soon, soonPEM := selfSigned(t, time.Now().Add(time.Hour))
	past, pastPEM := selfSigned(t, time.Now().Add(-time.Hour))
	tenant.RegisterCertificate(soon)
	path := file(t, soonPEM)
	newClient := func() *client.Client {
		return newSignedInClient(t, tenant, func(string) client.Credential {
			return client.Certificate{TenantID: tenant.TenantID(), ClientID: tenant.ClientID(), CertificatePath: path}
		})
	}
	for how, read := range map[string]func(*client.Client){
		"for a token request": func(c *client.Client) {
			for range c.Machines(t.Context()) {
			}
			tenant.RevokeTokens() // The next refresh requests another token.
		},
		"at start": func(c *client.Client) { c.ReadCredential(t.Context()) },
	} {
		t.Run(how, func(t *testing.T) {
			c := newClient()
			var last *x509.Certificate // None was read.
			for _, test := range []struct {
				name, content string
				want          *x509.Certificate
			}{
				{"the file as it was", soonPEM, soon},
				{"a file that was replaced by an expired one", pastPEM, past},
				{"a file that cannot be read", "garbled", nil},
			} {
				if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
					t.Fatal(err)
				}
				// A scrape reads nothing: it shows what was read last.
				for _, want := range []*x509.Certificate{last, test.want} {
					expiry, ok := c.CredentialExpiry()
					if ok != (want != nil) || ok && !expiry.Equal(want.NotAfter) {
						t.Errorf("%s: expiry %v, %v", test.name, expiry, ok)
					}
					read(c)
				}
				last = test.want
			}
		})
	}

	c := newSignedInClient(t, tenant, func(string) client.Credential {
		return client.ClientSecret{TenantID: tenant.TenantID(), ClientID: tenant.ClientID(), Secret: "x"}
	})
	c.ReadCredential(t.Context())
	if expiry, ok := c.CredentialExpiry(); ok {
		t.Errorf("a secret expires at %v, although its expiry is unknown", expiry)
	}
}

// selfSigned returns a certificate, and the certificate with its key as PEM.
func selfSigned(t *testing.T, notAfter time.Time) (*x509.Certificate, string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "app"},
		NotBefore: notAfter.Add(-48 * time.Hour), NotAfter: notAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}
