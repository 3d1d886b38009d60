package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/mde-exporter/mde_exporter/internal/readfile"
)

// Credential is how the exporter proves to the sign-in host that it is the app
// registration a tenant's administrator created. It is one of ClientSecret,
// Certificate, WorkloadIdentity and ManagedIdentity. Files are read again for
// every token request, so that rotating one needs no restart.
type Credential interface {
	// prove reads what the credential consists of and returns a proof made
	// from it. Its errors name the file or key to fix, and never its content.
	// With an error only the expiry of the proof may be set.
	prove(ctx context.Context, s signIn) (proof, error)
	// app returns the ids of the tenant and of the app registration, by which
	// services count calls.
	app() (tenantID, clientID string)
}

// CheckCredential reads the files of a credential and returns what keeps them
// from signing in. It calls nobody. An error about a file begins with the key of
// the configuration that names the file, as in "certificate_path: ".
func CheckCredential(ctx context.Context, c Credential) error {
	secrets := &redactor{}
	_, err := c.prove(ctx, signIn{secrets: secrets})
	return secrets.error(err)
}

// signIn is where and for what a credential is shown.
type signIn struct {
	// login is the origin of the sign-in host.
	login *url.URL
	// scope names the audience of the token.
	scope string
	// secrets learns what a credential consists of.
	secrets   *redactor
	transport *tokenTransport
}

// learn makes a secret of the credential or a token one that no error shows. Kind
// is what it is, in a word: a new one takes the place of older ones.
func (s signIn) learn(kind, secret string) { s.secrets.learn(kind+" for "+s.scope, secret) }

// proof is a credential as it was read for one token request.
type proof struct {
	// fingerprint differs between a changed credential and the one that was refused.
	fingerprint [sha256.Size]byte
	// exchange makes one token request. Its errors are of type *Error.
	exchange func(ctx context.Context) (*oauth2.Token, error)
	// expires is when the credential expires; zero if that is unknown.
	expires time.Time
}

// ReadCredential reads the files of the credential for CredentialExpiry, which
// otherwise knows nothing before the first token request. It calls nobody.
func (c *Client) ReadCredential(ctx context.Context) {
	_, _ = c.api.tokens.prove(ctx) // A token request fails for the same reason, and that error is reported.
}

// CredentialExpiry returns when the certificate or secret that the client signs in with
// expires, as of the last token request or ReadCredential. It reads no file, so a
// scrape may call it. It reports false if the credential has no known expiry, or
// could not be read.
func (c *Client) CredentialExpiry() (time.Time, bool) {
	expires := c.api.tokens.expires.Load()
	if expires == nil || expires.IsZero() {
		return time.Time{}, false
	}
	return *expires, true
}

// prove reads the credential and remembers when it expires.
func (t *tokens) prove(ctx context.Context) (proof, error) {
	p, err := t.credential.prove(ctx, t.signIn)
	t.expires.Store(&p.expires)
	return p, err
}

// fingerprint sums up the parts of a credential. Quotes keep ("ab", "c") and
// ("a", "bc") apart.
func fingerprint(parts ...string) [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%q", parts))
}

// maxCredentialFile is far more than any secret, token or chain takes, and
// keeps a path that names a device or a log file from filling the memory.
const maxCredentialFile = 1 << 20

// readCredentialFile returns the text of the file that key of the configuration
// names, as trim leaves it.
func readCredentialFile(ctx context.Context, key, path string, trim func(string) string) (string, error) {
	text, err := readfile.Text(ctx, path, maxCredentialFile)
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	if secret := trim(string(text)); secret != "" {
		return secret, nil
	}
	return "", fmt.Errorf("%s: %s: %w", key, path, errEmpty)
}

// withoutNewline drops the newline that editors and shells append to a password.
func withoutNewline(text string) string { return strings.TrimRight(text, "\r\n") }

// readCredentialBytes is readCredentialFile for a file that may be binary.
func readCredentialBytes(ctx context.Context, key, path string) ([]byte, error) {
	content, err := readfile.Bytes(ctx, path, maxCredentialFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return content, nil
}

// errEmpty says that a credential file holds nothing, which happens while
// another program is about to write it.
var errEmpty = errors.New("the file is empty")
