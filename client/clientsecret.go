package client

import "context"

// prove reads the secret.
func (c ClientSecret) prove(ctx context.Context, s signIn) (proof, error) {
	secret := c.Secret
	if c.SecretFile != "" {
		var err error
		if secret, err = readPassword(ctx, "client_secret_file", c.SecretFile); err != nil {
			return proof{}, err
		}
	}
	return proof{
		fingerprint: fingerprint(secret),
		exchange:    s.withSecret(c.TenantID, c.ClientID, secret),
	}, nil
}
