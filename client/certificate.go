package client

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/oauth2"
)

// assertionLifetime is how long a signed assertion is valid. Entra recommends five to
// ten minutes.
const assertionLifetime = 10 * time.Minute

// Certificate is a client certificate of an app registration.
type Certificate struct {
	TenantID string
	ClientID string
	// CertificatePath is a PEM file with the certificate and, unless KeyPath is
	// set, its private key; or a PKCS#12 file with both. It may contain a chain, in any
	// order.
	CertificatePath string
	KeyPath         string
	// Password is the password of the PKCS#12 file; PasswordFile is a file that contains
	// it. At most one is set.
	Password     string
	PasswordFile string
}

func (c Certificate) app() (tenantID, clientID string) { return c.TenantID, c.ClientID }

// load implements Credential. The token request signs an assertion with the key.
func (c Certificate) load(ctx context.Context, s signIn) (loadedCredential, error) {
	pair, err := c.read(ctx, s)
	if err != nil {
		return loadedCredential{}, err
	}
	s.addSecret("private key", string(x509.MarshalPKCS1PrivateKey(pair.key)))
	if err := pair.checkValidity(c.CertificatePath, time.Now()); err != nil {
		return loadedCredential{expires: pair.leaf.NotAfter}, err
	}
	return loadedCredential{
		expires:     pair.leaf.NotAfter,
		fingerprint: fingerprint(string(pair.leaf.Raw)),
		requestToken: func(ctx context.Context) (*oauth2.Token, error) {
			assertion, err := pair.assertion(s.tokenURL(c.TenantID), c.ClientID, time.Now())
			if err != nil {
				return nil, &Error{API: Token, Reason: ReasonAuth, Message: "sign the client assertion", Err: err}
			}
			return s.post(ctx, c.TenantID, c.ClientID, "client_assertion", assertion)
		},
	}, nil
}

// keyPair is a certificate and the private key that belongs to it.
type keyPair struct {
	leaf *x509.Certificate
	key  *rsa.PrivateKey
}

// checkValidity returns an error if the certificate is not valid now.
func (p keyPair) checkValidity(path string, now time.Time) error {
	switch {
	case now.After(p.leaf.NotAfter):
		return fmt.Errorf("certificate_path: the certificate in %s expired on %s: put a new one there and register it with the app",
			path, p.leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(p.leaf.NotBefore):
		return fmt.Errorf("certificate_path: the certificate in %s is not valid before %s: check the clock of this machine",
			path, p.leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// assertion signs a client assertion as Entra documents it:
// https://learn.microsoft.com/entra/identity-platform/certificate-credentials
func (p keyPair) assertion(tokenURL, clientID string, now time.Time) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodPS256, jwt.MapClaims{
		"aud": tokenURL,
		"iss": clientID,
		"sub": clientID,
		"jti": rand.Text(),
		"nbf": now.Unix(),
		"iat": now.Unix(),
		"exp": now.Add(assertionLifetime).Unix(),
	})
	thumbprint := sha256.Sum256(p.leaf.Raw)
	token.Header["x5t#S256"] = base64.RawURLEncoding.EncodeToString(thumbprint[:])
	return token.SignedString(p.key)
}
