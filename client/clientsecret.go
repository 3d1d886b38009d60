package client

import (
	"context"

	"golang.org/x/oauth2"
)

// ClientSecret is a password of an app registration; exactly one of Secret and
// SecretFile is set.
type ClientSecret struct {
	TenantID   string
	ClientID   string
	Secret     string
	SecretFile string
}

func (c ClientSecret) app() (tenantID, clientID string) { return c.TenantID, c.ClientID }

// prove reads the secret.
func (c ClientSecret) prove(ctx context.Context, s signIn) (proof, error) {
	secret := c.Secret
	if c.SecretFile != "" {
		var err error
		if secret, err = readCredentialFile(ctx, "client_secret_file", c.SecretFile, withoutNewline); err != nil {
			return proof{}, err
		}
	}
	return proof{
		fingerprint: fingerprint(secret),
		exchange: func(ctx context.Context) (*oauth2.Token, error) {
			return s.post(ctx, c.TenantID, c.ClientID, "client_secret", secret)
		},
	}, nil
}
