package client

import (
	"context"
	"strings"

	"golang.org/x/oauth2"
)

// WorkloadIdentity is a federated token, such as Kubernetes projects into a pod.
type WorkloadIdentity struct {
	TenantID      string
	ClientID      string
	TokenFilePath string
}

func (c WorkloadIdentity) app() (tenantID, clientID string) { return c.TenantID, c.ClientID }

// prove reads the federated token, which its issuer replaces every hour or so,
// and shows it as an assertion.
func (c WorkloadIdentity) prove(ctx context.Context, s signIn) (proof, error) {
	token, err := readCredentialFile(ctx, "token_file_path", c.TokenFilePath, strings.TrimSpace)
	if err != nil {
		return proof{}, err
	}
	return proof{
		fingerprint: fingerprint(token),
		exchange: func(ctx context.Context) (*oauth2.Token, error) {
			return s.post(ctx, c.TenantID, c.ClientID, "client_assertion", token)
		},
	}, nil
}
