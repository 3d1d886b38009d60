package client

import (
	"context"
	"strings"

	"golang.org/x/oauth2"
)

// WorkloadIdentity is a federated token in a file, such as Kubernetes projects into a pod.
type WorkloadIdentity struct {
	TenantID      string
	ClientID      string
	TokenFilePath string
}

func (c WorkloadIdentity) app() (tenantID, clientID string) { return c.TenantID, c.ClientID }

// load implements Credential. The token is the client assertion. Its issuer replaces the
// file about every hour.
func (c WorkloadIdentity) load(ctx context.Context, s signIn) (loadedCredential, error) {
	token, err := readCredentialFile(ctx, "token_file_path", c.TokenFilePath, strings.TrimSpace)
	if err != nil {
		return loadedCredential{}, err
	}
	return loadedCredential{
		fingerprint: fingerprint(token),
		requestToken: func(ctx context.Context) (*oauth2.Token, error) {
			return s.post(ctx, c.TenantID, c.ClientID, "client_assertion", token)
		},
	}, nil
}
