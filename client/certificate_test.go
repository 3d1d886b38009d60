package client

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// testKeys are generated once, because RSA keys are slow to generate.
var testKeys = sync.OnceValue(func() (keys [2]*rsa.PrivateKey) {
	for i := range keys {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys[i] = key
	}
	return keys
})

// makeCertificate returns a certificate of the key, in DER.
func makeCertificate(t *testing.T, key crypto.Signer, notBefore, notAfter time.Time) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(notAfter.Unix()),
		Subject:      pkix.Name{CommonName: "app"},
		NotBefore:    notBefore,
		NotAfter:     notAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func pkcs8(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// certificateOf writes the files and returns the credential that reads them.
func certificateOf(t *testing.T, certificatePEM, keyPEM string) Certificate {
	t.Helper()
	dir := t.TempDir()
	c := Certificate{TenantID: "tenant", ClientID: "app", CertificatePath: writeFile(t, filepath.Join(dir, "cert.pem"), certificatePEM)}
	if keyPEM != "" {
		c.KeyPath = writeFile(t, filepath.Join(dir, "key.pem"), keyPEM)
	}
	return c
}

// verifyAssertion verifies an assertion with the registered certificate, as the sign-in
// host does.
func verifyAssertion(t *testing.T, assertion string, der []byte) jwt.MapClaims {
	t.Helper()
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{}
	token, err := jwt.ParseWithClaims(assertion, claims, func(*jwt.Token) (any, error) { return certificate.PublicKey, nil },
		jwt.WithValidMethods([]string{"PS256"}), jwt.WithIssuedAt(), jwt.WithExpirationRequired(),
		jwt.WithAudience("https://login.example/tenant/oauth2/v2.0/token"), jwt.WithIssuer("app"), jwt.WithSubject("app"))
	if err != nil {
		t.Errorf("assertion rejected: %v", err)
		return nil
	}
	thumbprint := sha256.Sum256(der)
	want := map[string]any{"alg": "PS256", "typ": "JWT", "x5t#S256": base64.RawURLEncoding.EncodeToString(thumbprint[:])}
	if fmt.Sprint(token.Header) != fmt.Sprint(want) {
		t.Errorf("header is %v, want %v", token.Header, want)
	}
	if _, ok := claims["aud"].(string); !ok {
		t.Errorf("aud is %T, want a string", claims["aud"])
	}
	return claims
}

func TestCertificateSignsAssertion(t *testing.T) {
	now := time.Now()
	key, other := testKeys()[0], testKeys()[1]
	leaf := makeCertificate(t, key, now.Add(-time.Hour), now.Add(24*time.Hour))
	issuer := makeCertificate(t, other, now.Add(-time.Hour), now.Add(48*time.Hour))
	leafPEM, issuerPEM := pemOf("CERTIFICATE", leaf), pemOf("CERTIFICATE", issuer)
	pkcs1PEM := pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
	pkcs8PEM := pemOf("PRIVATE KEY", pkcs8(t, key))

	for name, test := range map[string]struct{ certificate, key string }{
		"with its key in the same file, PKCS#8": {leafPEM + pkcs8PEM, ""},
		"with its key in the same file, PKCS#1": {pkcs1PEM + leafPEM, ""},
		"with its key in another file, PKCS#8":  {leafPEM, pkcs8PEM},
		"with its key in another file, PKCS#1":  {leafPEM, pkcs1PEM},
		"followed by its issuer":                {leafPEM + issuerPEM, pkcs8PEM},
		"preceded by its issuer":                {issuerPEM + leafPEM, pkcs8PEM},
		"between comments":                      {"Bag Attributes\n" + leafPEM + "subject=app\n" + pkcs8PEM + "end\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var ids []any
			tokens, f := testTokens(certificateOf(t, test.certificate, test.key), func(w http.ResponseWriter, r *http.Request) {
				claims := verifyAssertion(t, r.PostForm.Get("client_assertion"), leaf)
				ids = append(ids, claims["jti"])
				if got := claims["exp"].(float64) - claims["nbf"].(float64); got != 600 {
					t.Errorf("the assertion is valid for %vs, want 600s", got)
				}
				giveToken(w, "good", time.Hour)
			})
			for range 2 {
				token, err := tokens.token(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				tokens.reject(token)
			}
			if form := f.forms[0]; form.Get("client_assertion_type") != assertionType || form.Has("client_secret") || form.Get("client_id") != "app" {
				t.Errorf("form is %v", form)
			}
			if ids[0] == ids[1] || ids[0] == "" {
				t.Errorf("two assertions have the ids %v", ids)
			}
		})
	}
}

func TestUnusableCertificateFailsWithoutRequest(t *testing.T) {
	now := time.Now()
	key, other := testKeys()[0], testKeys()[1]
	good := pemOf("CERTIFICATE", makeCertificate(t, key, now.Add(-time.Hour), now.Add(time.Hour)))
	expired := pemOf("CERTIFICATE", makeCertificate(t, key, now.Add(-2*time.Hour), now.Add(-time.Hour)))
	early := pemOf("CERTIFICATE", makeCertificate(t, key, now.Add(time.Hour), now.Add(2*time.Hour)))
	keyPEM := pemOf("PRIVATE KEY", pkcs8(t, key))
	otherPEM := pemOf("PRIVATE KEY", pkcs8(t, other))
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecPEM := pemOf("CERTIFICATE", makeCertificate(t, ecKey, now.Add(-time.Hour), now.Add(time.Hour)))
	sec1, err := x509.MarshalECPrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}

	for name, test := range map[string]struct{ certificate, key, want string }{
		"a key of another certificate":        {good, otherPEM, "belongs to the private key"},
		"an expired certificate":              {expired, keyPEM, "expired on"},
		"a certificate that is not valid yet": {early, keyPEM, "check the clock"},
		"an EC key, PKCS#8":                   {ecPEM, pemOf("PRIVATE KEY", pkcs8(t, ecKey)), "not an RSA key"},
		"an EC key, SEC 1":                    {ecPEM, pemOf("EC PRIVATE KEY", sec1), "not an RSA key"},
		"an encrypted key":                    {good, pemOf("ENCRYPTED PRIVATE KEY", []byte("x")), "is encrypted"},
		"an encrypted key in the old format":  {good, "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n", "is encrypted"},
		"no key at all":                       {good, "", "no private key"},
		"no certificate at all":               {keyPEM, keyPEM, "no certificate"},
		"a garbled key":                       {good, pemOf("PRIVATE KEY", []byte("garbled")), "cannot parse the PRIVATE KEY"},
		"a garbled certificate":               {pemOf("CERTIFICATE", []byte("garbled")), keyPEM, "not a certificate"},
		"a certificate in DER, not PEM":       {string(makeCertificate(t, key, now, now.Add(time.Hour))), keyPEM, "not in PEM format"},
	} {
		t.Run(name, func(t *testing.T) {
			credential := certificateOf(t, test.certificate, test.key)
			tokens, f := testTokens(credential, wrongSecret)
			_, err := tokens.token(t.Context())
			if ReasonOf(err) != ReasonAuth || !strings.Contains(fmt.Sprint(err), test.want) || !strings.Contains(fmt.Sprint(err), filepath.Dir(credential.CertificatePath)) {
				t.Errorf("error is %v, want %q and the file", err, test.want)
			}
			if f.requests() != 0 {
				t.Error("a request was made")
			}
		})
	}
}

func TestRotatedCertificateIsUsedImmediately(t *testing.T) {
	now := time.Now()
	key, other := testKeys()[0], testKeys()[1]
	first := makeCertificate(t, key, now.Add(-time.Hour), now.Add(time.Hour))
	second := makeCertificate(t, other, now.Add(-time.Hour), now.Add(24*time.Hour))
	credential := certificateOf(t, pemOf("CERTIFICATE", first)+pemOf("PRIVATE KEY", pkcs8(t, key)), "")
	registered := first
	tokens, _ := testTokens(credential, func(w http.ResponseWriter, r *http.Request) {
		verifyAssertion(t, r.PostForm.Get("client_assertion"), registered)
		giveToken(w, "good", time.Hour)
	})
	token, err := tokens.token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	registered = second
	writeFile(t, credential.CertificatePath, pemOf("CERTIFICATE", second)+pemOf("PRIVATE KEY", pkcs8(t, other)))
	tokens.reject(token)
	mustToken(t, tokens)
}
