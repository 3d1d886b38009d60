package client

import (
	"context"
	"fmt"
	"strings"
)

// prove reads the secret. The newline that editors and shells append to a file
// is no part of it.
func (c ClientSecret) prove(ctx context.Context, s signIn) (proof, error) {
	secret := c.Secret
	if c.SecretFile != "" {
		content, err := readCredentialFile(ctx, "client_secret_file", c.SecretFile)
		if err != nil {
			return proof{}, err
		}
		secret = strings.TrimRight(content, "\r\n")
		if secret == "" {
			return proof{}, fmt.Errorf("client_secret_file: %s: %w", c.SecretFile, errEmpty)
		}
	}
	return proof{
		fingerprint: fingerprint(secret),
		exchange:    s.withSecret(c.TenantID, c.ClientID, secret),
	}, nil
}
