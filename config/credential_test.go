package config_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/config"
)

// pfx returns a PKCS#12 file with a certificate and its key.
func pfx(t *testing.T, password string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "app"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	content, err := pkcs12.Modern2023.Encode(key, certificate, nil, password)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestCertificatePassword(t *testing.T) {
	ids := "tenant_id: " + tenantID + ", client_id: " + clientID
	path := write(t, map[string]string{"mde.yml": `tenants:
- name: a
  azuread: {certificate: {` + ids + `, certificate_path: app.pfx, certificate_password: hush}}
- name: b
  azuread: {certificate: {` + ids + `, certificate_path: app.pfx, certificate_password_file: secrets/password}}
`})
	dir := filepath.Dir(path)
	c, err := config.Load(path, config.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	want := client.Certificate{TenantID: tenantID, ClientID: clientID, CertificatePath: filepath.Join(dir, "app.pfx"), Password: "hush"}
	if got := options(t, c.Tenants[0]).Credential; got != want {
		t.Errorf("credential %#v, want %#v", got, want)
	}
	want.Password, want.PasswordFile = "", filepath.Join(dir, "secrets", "password")
	if got := options(t, c.Tenants[1]).Credential; got != want {
		t.Errorf("credential %#v, want %#v", got, want)
	}
	if text := c.String(); strings.Contains(text, "hush") || !strings.Contains(text, "certificate_password: <secret>") {
		t.Errorf("configuration in force:\n%s", text)
	}
}

func TestCheckOpensPKCS12Files(t *testing.T) {
	at := func(rest string) string {
		return "\n  azuread:\n    certificate:\n      tenant_id: " + tenantID + "\n      client_id: " + clientID + "\n      certificate_path: app.pfx\n" + rest
	}
	path := write(t, map[string]string{
		"mde.yml": "tenants:\n- name: a" + at("      certificate_password: hush\n") +
			"- name: b" + at("      certificate_password_file: password\n") +
			"- name: c" + at("") +
			"- name: d" + at("      certificate_password: other\n") +
			"- name: e" + at("      certificate_password_file: other\n") +
			"- name: f" + at("      certificate_password_file: none\n") +
			"- name: g" + at("      certificate_password: hush\n      certificate_password_file: password\n"),
		"app.pfx": pfx(t, "hush"), "password": "\ufeffhush\r\n", "other": "other\n",
	})
	want := []string{
		"mde.yml:21: tenants[2].azuread.certificate.certificate_path: app.pfx: protected by a password: set certificate_password or certificate_password_file",
		"mde.yml:28: tenants[3].azuread.certificate.certificate_password: wrong password for the PKCS#12 file app.pfx",
		"mde.yml:35: tenants[4].azuread.certificate.certificate_password_file: wrong password for the PKCS#12 file app.pfx",
		"mde.yml:42: tenants[5].azuread.certificate.certificate_password_file: stat none: no such file or directory",
		"mde.yml:50: tenants[6].azuread.certificate.certificate_password_file: only one of certificate_password and certificate_password_file can be used",
	}
	got := lines(mistakes(path), filepath.Dir(path))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mistakes (-want +got):\n%s", diff)
	}
}

func TestCertificatePasswordFromEnvironment(t *testing.T) {
	c, err := fromEnvironment(map[string]string{
		"AZURE_TENANT_ID": tenantID, "AZURE_CLIENT_ID": clientID,
		"AZURE_CLIENT_CERTIFICATE_PATH": "app.pfx", "AZURE_CLIENT_CERTIFICATE_PASSWORD": "hush",
	}, config.Endpoints{}, config.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	want := client.Certificate{TenantID: tenantID, ClientID: clientID, CertificatePath: "app.pfx", Password: "hush"}
	if got := options(t, c.Tenants[0]).Credential; got != want {
		t.Errorf("credential %#v, want %#v", got, want)
	}
	if text := c.String(); strings.Contains(text, "hush") {
		t.Errorf("configuration in force:\n%s", text)
	}
}

func TestDefaultTokenFileOfWorkloadIdentity(t *testing.T) {
	ids := "tenant_id: " + tenantID + ", client_id: " + clientID
	path := write(t, map[string]string{"mde.yml": `tenants:
- name: a
  azuread: {workload_identity: {` + ids + `}}
- name: b
  azuread: {workload_identity: {` + ids + `, token_file_path: }}
`})
	c, err := config.Load(path, config.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range c.Tenants {
		want := client.WorkloadIdentity{TenantID: tenantID, ClientID: clientID, TokenFilePath: "/var/run/secrets/azure/tokens/azure-identity-token"}
		if got := options(t, tenant).Credential; got != want {
			t.Errorf("credential %#v, want %#v", got, want)
		}
	}
	if text := c.String(); !strings.Contains(text, "token_file_path: /var/run/secrets/azure/tokens/azure-identity-token") {
		t.Errorf("configuration in force:\n%s", text)
	}
}

func TestCheckWarnsAboutSuspiciousIDs(t *testing.T) {
	const zero = "00000000-0000-0000-0000-000000000000"
	for name, test := range map[string]struct {
		azuread string
		want    []string
	}{
		"valid ids":                     {"oauth: {tenant_id: " + tenantID + ", client_id: " + clientID + ", client_secret: hush}", nil},
		"upper case":                    {"oauth: {tenant_id: " + tenantID + ", client_id: " + strings.ToUpper(clientID) + ", client_secret: hush}", nil},
		"domain":                        {"oauth: {tenant_id: contoso.example, client_id: " + clientID + ", client_secret: hush}", nil},
		"app name":                      {"oauth: {tenant_id: " + tenantID + ", client_id: my-app, client_secret: hush}", []string{"mde.yml:3: tenants[0].azuread.oauth.client_id: not a GUID: use the client id that the portal shows"}},
		"truncated GUID":                {"oauth: {tenant_id: " + tenantID + ", client_id: " + clientID[1:] + ", client_secret: hush}", []string{"mde.yml:3: tenants[0].azuread.oauth.client_id: not a GUID: use the client id that the portal shows"}},
		"managed identity":              {"managed_identity: {client_id: my-identity}", []string{"mde.yml:3: tenants[0].azuread.managed_identity.client_id: not a GUID: use the client id that the portal shows"}},
		"example ids":                   {"oauth: {tenant_id: " + zero + ", client_id: " + zero + ", client_secret: hush}", []string{"mde.yml:3: tenants[0].azuread.oauth.tenant_id: all zeros, as in the example: use your own", "mde.yml:3: tenants[0].azuread.oauth.client_id: all zeros, as in the example: use your own"}},
		"workload identity, example id": {"workload_identity: {tenant_id: " + tenantID + ", client_id: " + zero + "}", []string{"mde.yml:3: tenants[0].azuread.workload_identity.client_id: all zeros, as in the example: use your own"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, map[string]string{"mde.yml": "tenants:\n- name: a\n  azuread: {" + test.azuread + "}\n"})
			warnings, _ := config.Check(path, config.Overrides{})
			var got []string
			for _, w := range warnings {
				w.File = filepath.Base(w.File)
				got = append(got, w.String())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
			if _, err := config.Load(path, config.Overrides{}); err != nil {
				t.Errorf("Load rejects it: %v", err)
			}
		})
	}
}
