package client

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

const pfxPassword = "pässword with spaces "

// encodePFX makes a PKCS#12 file.
func encodePFX(t *testing.T, encoder *pkcs12.Encoder, key crypto.Signer, password string, certificates ...[]byte) string {
	t.Helper()
	var parsed []*x509.Certificate
	for _, der := range certificates {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, certificate)
	}
	pfx, err := encoder.Encode(key, parsed[0], parsed[1:], password)
	if err != nil {
		t.Fatal(err)
	}
	return string(pfx)
}

func TestPKCS12SignsAssertion(t *testing.T) {
	now := time.Now()
	key, other := testKeys()[0], testKeys()[1]
	leaf := makeCertificate(t, key, now.Add(-time.Hour), now.Add(24*time.Hour))
	issuer := makeCertificate(t, other, now.Add(-time.Hour), now.Add(48*time.Hour))

	for name, test := range map[string]struct {
		content, password, passwordFile string
	}{
		"today's algorithms":         {content: encodePFX(t, pkcs12.Modern2023, key, pfxPassword, leaf), password: pfxPassword},
		"algorithms of Windows 7":    {content: encodePFX(t, pkcs12.LegacyDES, key, pfxPassword, leaf), password: pfxPassword},
		"older algorithms":           {content: encodePFX(t, pkcs12.LegacyRC2, key, pfxPassword, leaf), password: pfxPassword},
		"an empty password":          {content: encodePFX(t, pkcs12.Modern2023, key, "", leaf)},
		"no password":                {content: encodePFX(t, pkcs12.Passwordless, key, "", leaf)},
		"a chain":                    {content: encodePFX(t, pkcs12.Modern2023, key, pfxPassword, leaf, issuer), password: pfxPassword},
		"a chain, issuer first":      {content: encodePFX(t, pkcs12.Modern2023, key, pfxPassword, issuer, leaf), password: pfxPassword},
		"a password file":            {content: encodePFX(t, pkcs12.Modern2023, key, pfxPassword, leaf), passwordFile: pfxPassword},
		"a password file of Windows": {content: encodePFX(t, pkcs12.Modern2023, key, pfxPassword, leaf), passwordFile: "\ufeff" + pfxPassword + "\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			credential := certificateOf(t, test.content, "")
			credential.Password = test.password
			if test.passwordFile != "" {
				credential.PasswordFile = writeFile(t, filepath.Join(t.TempDir(), "password"), test.passwordFile)
			}
			tokens, _ := testTokens(credential, func(w http.ResponseWriter, r *http.Request) {
				verifyAssertion(t, r.PostForm.Get("client_assertion"), leaf)
				giveToken(w, "good", time.Hour)
			})
			mustToken(t, tokens)
		})
	}
}

// Files from OpenSSL, not only from the library that reads them.
func TestPKCS12OfOpenSSLSignsAssertion(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl")
	}
	now := time.Now()
	key := testKeys()[0]
	leaf := makeCertificate(t, key, now.Add(-time.Hour), now.Add(24*time.Hour))
	pem := writeFile(t, filepath.Join(t.TempDir(), "app.pem"), pemOf("CERTIFICATE", leaf)+pemOf("PRIVATE KEY", pkcs8(t, key)))
	for _, option := range []string{"-nomaciter", "-legacy", "-keypbe=NONE", "-certpbe=NONE"} {
		t.Run(option, func(t *testing.T) {
			pfx := filepath.Join(t.TempDir(), "app.pfx")
			arguments := append([]string{"pkcs12", "-export", "-in", pem, "-out", pfx, "-passout", "pass:s3cr3t"}, strings.Split(option, "=")...)
			if output, err := exec.CommandContext(t.Context(), openssl, arguments...).CombinedOutput(); err != nil {
				t.Skipf("this openssl does not support it: %v: %s", err, output)
			}
			tokens, _ := testTokens(Certificate{TenantID: "tenant", ClientID: "app", CertificatePath: pfx, Password: "s3cr3t"}, func(w http.ResponseWriter, r *http.Request) {
				verifyAssertion(t, r.PostForm.Get("client_assertion"), leaf)
				giveToken(w, "good", time.Hour)
			})
			mustToken(t, tokens)
		})
	}
}

func TestUnusableCertificateFormatIsNamedWithoutRequest(t *testing.T) {
	now := time.Now()
	key, other := testKeys()[0], testKeys()[1]
	leaf := makeCertificate(t, key, now.Add(-time.Hour), now.Add(time.Hour))
	stranger := makeCertificate(t, other, now.Add(-time.Hour), now.Add(time.Hour))
	expired := makeCertificate(t, key, now.Add(-2*time.Hour), now.Add(-time.Hour))
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecLeaf := makeCertificate(t, ecKey, now.Add(-time.Hour), now.Add(time.Hour))
	parsed, err := x509.ParseCertificate(leaf)
	if err != nil {
		t.Fatal(err)
	}
	trustStore, err := pkcs12.Modern2023.EncodeTrustStore([]*x509.Certificate{parsed}, pfxPassword)
	if err != nil {
		t.Fatal(err)
	}
	pfx := encodePFX(t, pkcs12.Modern2023, key, pfxPassword, leaf)
	certificatePEM, keyPEM := pemOf("CERTIFICATE", leaf), pemOf("PRIVATE KEY", pkcs8(t, key))

	for name, test := range map[string]struct {
		certificate, key       string
		password, passwordFile string
		want                   []string
	}{
		"no password": {certificate: pfx, want: []string{"certificate_path: ", "set certificate_password or certificate_password_file"}},
		"a wrong password": {certificate: pfx, password: "s3cr3t-wrong",
			want: []string{"certificate_password: ", "wrong password for the PKCS#12 file"}},
		"a wrong password in a file": {certificate: pfx, passwordFile: "s3cr3t-wrong",
			want: []string{"certificate_password_file: ", "wrong password for the PKCS#12 file"}},
		"a password file in UTF-16": {certificate: pfx, passwordFile: "\xff\xfep\x00", want: []string{"certificate_password_file: ", "UTF-16"}},
		"an empty password file":    {certificate: pfx, passwordFile: "\n", want: []string{"certificate_password_file: ", "the file is empty"}},
		"a separate key file":       {certificate: pfx, key: keyPEM, password: pfxPassword, want: []string{"certificate_key_path: ", "remove certificate_key_path"}},
		"an EC key":                 {certificate: encodePFX(t, pkcs12.Modern2023, ecKey, pfxPassword, ecLeaf), password: pfxPassword, want: []string{"not an RSA key"}},
		"another certificate":       {certificate: encodePFX(t, pkcs12.Modern2023, key, pfxPassword, stranger), password: pfxPassword, want: []string{"belongs to the private key"}},
		"an expired certificate":    {certificate: encodePFX(t, pkcs12.Modern2023, key, pfxPassword, expired), password: pfxPassword, want: []string{"expired on"}},
		"no private key":            {certificate: string(trustStore), password: pfxPassword, want: []string{"cannot read the PKCS#12 file", "openssl pkcs12 -in"}},
		"an indefinite length":      {certificate: "\x30\x80\x02\x01\x03\x30\x80\x00\x00\x00\x00", password: pfxPassword, want: []string{"cannot read the PKCS#12 file", "openssl pkcs12 -in"}},

		"a certificate in DER form":           {certificate: string(leaf), want: []string{"certificate_path: ", "in DER format", "openssl x509 -inform der -in", "certificate_key_path"}},
		"a certificate in DER form for a key": {certificate: certificatePEM, key: string(leaf), want: []string{"certificate_key_path: ", "in DER format"}},
		"a key in DER form, PKCS#8":           {certificate: certificatePEM, key: string(pkcs8(t, key)), want: []string{"certificate_key_path: ", "a private key in DER format", "openssl pkey -inform der -in"}},
		"a key in DER form, PKCS#1":           {certificate: certificatePEM, key: string(x509.MarshalPKCS1PrivateKey(key)), want: []string{"certificate_key_path: ", "a private key in DER format"}},
		"PKCS#12 for a key":                   {certificate: certificatePEM, key: pfx, want: []string{"certificate_key_path: ", "a PKCS#12 file"}},
		"PKCS#7":                              {certificate: "\x30\x0f\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0\x02\x30\x00", want: []string{"certificate_path: ", "a PKCS#7 file", "openssl pkcs7 -inform der -in"}},
	} {
		t.Run(name, func(t *testing.T) {
			credential := certificateOf(t, test.certificate, test.key)
			credential.Password = test.password
			if test.passwordFile != "" {
				credential.PasswordFile = writeFile(t, filepath.Join(t.TempDir(), "password"), test.passwordFile)
			}
			tokens, f := testTokens(credential, wrongSecret)
			_, err := tokens.token(t.Context())
			for _, want := range test.want {
				if ReasonOf(err) != ReasonAuth || !strings.Contains(fmt.Sprint(err), want) {
					t.Errorf("error is %v, want %q", err, want)
				}
			}
			for _, secret := range []string{pfxPassword, "s3cr3t"} {
				if strings.Contains(fmt.Sprint(err), secret) {
					t.Errorf("the error contains the password: %v", err)
				}
			}
			if f.requests() != 0 {
				t.Error("a request was made")
			}
		})
	}
}
