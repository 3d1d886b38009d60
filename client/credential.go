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

// Credential authenticates the app registration to the sign-in host. It is one of
// ClientSecret, Certificate, WorkloadIdentity and ManagedIdentity. Its files are read
// for every token request, so that rotating one needs no restart.
type Credential interface {
	// load reads the parts of the credential. Its errors name the file or key to fix
	// and never contain its content. If it fails, only the expiry of the result may be
	// set.
	load(ctx context.Context, s signIn) (loadedCredential, error)
	// app returns the ids of the tenant and of the app registration. Services count calls
	// by them.
	app() (tenantID, clientID string)
}

// CheckCredential reads the files of a credential and returns an error if they cannot be
// used to sign in. It makes no request. An error about a file begins with the
// configuration key that names the file, as in "certificate_path: ".
func CheckCredential(ctx context.Context, c Credential) error {
	secrets := &redactor{}
	_, err := c.load(ctx, signIn{secrets: secrets})
	return secrets.error(err)
}

// signIn is the sign-in host and the audience of a token request.
type signIn struct {
	// login is the origin of the sign-in host.
	login *url.URL
	// scope names the audience of the token.
	scope string
	// secrets masks the parts of the credential in errors.
	secrets   *redactor
	transport *tokenTransport
}

// addSecret masks a part of the credential or a token in all errors. kind names what it
// is: a new secret replaces older ones of the same kind.
func (s signIn) addSecret(kind, secret string) { s.secrets.add(kind+" for "+s.scope, secret) }

// loadedCredential is a credential as it was read for one token request.
type loadedCredential struct {
	// fingerprint changes when the content of the credential changes.
	fingerprint [sha256.Size]byte
	// requestToken makes one token request. Its errors are of type *Error.
	requestToken func(ctx context.Context) (*oauth2.Token, error)
	// expires is when the credential expires; zero if unknown.
	expires time.Time
}

// ReadCredential reads the files of the credential, so that CredentialExpiry is known
// before the first token request. It makes no request.
func (c *Client) ReadCredential(ctx context.Context) {
	_, _ = c.api.tokens.loadCredential(ctx) // The next token request returns the same error.
}

// CredentialExpiry returns when the client's certificate or secret expires, as of the
// last token request or ReadCredential. It reads no file, so a scrape may call it. It
// returns false if the expiry is unknown or the credential could not be read.
func (c *Client) CredentialExpiry() (time.Time, bool) {
	expires := c.api.tokens.expires.Load()
	if expires == nil || expires.IsZero() {
		return time.Time{}, false
	}
	return *expires, true
}

// loadCredential reads the credential and stores its expiry for CredentialExpiry.
func (t *tokens) loadCredential(ctx context.Context) (loadedCredential, error) {
	p, err := t.credential.load(ctx, t.signIn)
	t.expires.Store(&p.expires)
	return p, err
}

// fingerprint returns a hash of the parts of a credential. Quotes distinguish
// ("ab", "c") from ("a", "bc").
func fingerprint(parts ...string) [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%q", parts))
}

// maxCredentialFile is the maximum size of a credential file in bytes, far more than any
// secret, token or chain needs.
const maxCredentialFile = 1 << 20

// readCredentialFile returns the trimmed text of a file. key is the configuration key
// that names the file.
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

// withoutNewline removes the newline that editors and shells append to a password.
func withoutNewline(text string) string { return strings.TrimRight(text, "\r\n") }

// readCredentialBytes is readCredentialFile for a file that may be binary. The content
// is not trimmed.
func readCredentialBytes(ctx context.Context, key, path string) ([]byte, error) {
	content, err := readfile.Bytes(ctx, path, maxCredentialFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return content, nil
}

// errEmpty is the error of an empty credential file, which may be about to be written.
var errEmpty = errors.New("the file is empty")
