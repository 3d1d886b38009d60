package client

import (
	"context"
	"time"

	"golang.org/x/oauth2"
)

// ClientSecret is a client secret of an app registration. Exactly one of Secret and
// SecretFile is set.
type ClientSecret struct {
	TenantID   string
	ClientID   string
	Secret     string
	SecretFile string
	// Expires is when the secret expires, as configured; the zero time means unknown.
	// It is used for CredentialExpiry only.
	Expires time.Time
}

func (c ClientSecret) app() (tenantID, clientID string) { return c.TenantID, c.ClientID }

// load implements Credential.
func (c ClientSecret) load(ctx context.Context, s signIn) (loadedCredential, error) {
	secret := c.Secret
	if c.SecretFile != "" {
		var err error
		if secret, err = readCredentialFile(ctx, "client_secret_file", c.SecretFile, withoutNewline); err != nil {
			return loadedCredential{expires: c.Expires}, err
		}
	}
	return loadedCredential{
		expires:     c.Expires,
		fingerprint: fingerprint(secret),
		requestToken: func(ctx context.Context) (*oauth2.Token, error) {
			return s.post(ctx, c.TenantID, c.ClientID, "client_secret", secret)
		},
	}, nil
}
