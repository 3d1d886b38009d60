package client

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// assertionLifetime is how long a signed assertion is good for: Entra's advice
// is five to ten minutes.
const assertionLifetime = 10 * time.Minute

// prove reads the certificate and its key, and signs an assertion with them.
func (c Certificate) prove(ctx context.Context, s signIn) (proof, error) {
	pair, err := c.read(ctx)
	if err != nil {
		return proof{}, err
	}
	s.learn("private key", string(x509.MarshalPKCS1PrivateKey(pair.key)))
	if err := pair.checkValidity(c.CertificatePath, time.Now()); err != nil {
		return proof{expires: pair.leaf.NotAfter}, err
	}
	return proof{
		expires:     pair.leaf.NotAfter,
		fingerprint: fingerprint(string(pair.leaf.Raw)),
		exchange: s.withAssertion(c.TenantID, c.ClientID, func() (string, error) {
			return pair.assertion(s.tokenURL(c.TenantID), c.ClientID, time.Now())
		}),
	}, nil
}

// keyPair is a certificate and the private key that belongs to it.
type keyPair struct {
	leaf *x509.Certificate
	key  *rsa.PrivateKey
}

// read reads the certificate and its key from one file or from two.
func (c Certificate) read(ctx context.Context) (keyPair, error) {
	certificatePEM, err := readCredentialFile(ctx, "certificate_path", c.CertificatePath)
	if err != nil {
		return keyPair{}, err
	}
	certificates, err := parseCertificates(certificatePEM)
	if err != nil {
		return keyPair{}, fmt.Errorf("certificate_path: %s: %w", c.CertificatePath, err)
	}

	keyName, keyPath, keyPEM := "certificate_path", c.CertificatePath, certificatePEM
	if c.KeyPath != "" {
		keyName, keyPath = "certificate_key_path", c.KeyPath
		if keyPEM, err = readCredentialFile(ctx, keyName, keyPath); err != nil {
			return keyPair{}, err
		}
	}
	key, err := parsePrivateKey(keyPEM)
	if err != nil {
		return keyPair{}, fmt.Errorf("%s: %s: %w", keyName, keyPath, err)
	}

	for _, certificate := range certificates {
		if key.PublicKey.Equal(certificate.PublicKey) {
			return keyPair{leaf: certificate, key: key}, nil
		}
	}
	return keyPair{}, fmt.Errorf("certificate_path: no certificate in %s belongs to the private key in %s", c.CertificatePath, keyPath)
}

// checkValidity refuses a certificate that the sign-in host would refuse,
// without asking it.
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
	signed, err := token.SignedString(p.key)
	if err != nil {
		return "", fmt.Errorf("sign the client assertion: %w", err)
	}
	return signed, nil
}

// parseCertificates returns every certificate of a PEM file.
func parseCertificates(content string) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	for block := range pemBlocks(content) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("not a certificate: %w", err)
		}
		certificates = append(certificates, certificate)
	}
	if len(certificates) == 0 {
		return nil, errors.New("no certificate in PEM form (-----BEGIN CERTIFICATE-----) in it")
	}
	return certificates, nil
}

// parsePrivateKey returns the first private key of a PEM file. The texts of
// its errors are its own: those of the parsers may quote the key.
func parsePrivateKey(content string) (*rsa.PrivateKey, error) {
	for block := range pemBlocks(content) {
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY", block.Headers["DEK-Info"] != "":
			return nil, errors.New("the private key is encrypted: store it decrypted (openssl pkey) in a file only the exporter may read")
		case block.Type == "RSA PRIVATE KEY":
			key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
			if err != nil {
				return nil, errors.New("the RSA PRIVATE KEY in it cannot be parsed")
			}
			return key, nil
		case block.Type == "EC PRIVATE KEY":
			return nil, errNotRSA
		case block.Type == "PRIVATE KEY":
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, errors.New("the PRIVATE KEY in it cannot be parsed")
			}
			rsaKey, ok := key.(*rsa.PrivateKey)
			if !ok {
				return nil, errNotRSA
			}
			return rsaKey, nil
		}
	}
	return nil, errors.New("no private key in PEM form (-----BEGIN PRIVATE KEY-----) in it")
}

// pemBlocks yields the blocks of a PEM file and passes over what stands between.
func pemBlocks(content string) iter.Seq[*pem.Block] {
	return func(yield func(*pem.Block) bool) {
		rest := []byte(content)
		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil || !yield(block) {
				return
			}
		}
	}
}

// errNotRSA says why a key that TLS would take is of no use here.
var errNotRSA = errors.New("the private key is not an RSA key: Entra accepts client assertions signed by RSA keys only")
