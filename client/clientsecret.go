package client

import (
	"context"
	"time"

	"golang.org/x/oauth2"
)

// ClientSecret is a password of an app registration; exactly one of Secret and
// SecretFile is set.
type ClientSecret struct {
	TenantID   string
	ClientID   string
	Secret     string
	SecretFile string
	// Expires is when the secret expires, as its owner knows; the zero time means
	// that this is unknown. Only CredentialExpiry returns it.
	Expires time.Time
}

func (c ClientSecret) app() (tenantID, clientID string) { return c.TenantID, c.ClientID }

// prove reads the secret.
func (c ClientSecret) prove(ctx context.Context, s signIn) (proof, error) {
	secret := c.Secret
	if c.SecretFile != "" {
		var err error
		if secret, err = readCredentialFile(ctx, "client_secret_file", c.SecretFile, withoutNewline); err != nil {
			return proof{expires: c.Expires}, err
		}
	}
	return proof{
		expires:     c.Expires,
		fingerprint: fingerprint(secret),
		exchange: func(ctx context.Context) (*oauth2.Token, error) {
			return s.post(ctx, c.TenantID, c.ClientID, "client_secret", secret)
		},
	}, nil
}
