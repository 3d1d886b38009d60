package client

import (
	"context"
	"fmt"
	"strings"
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
	content, err := readCredentialFile(ctx, "token_file_path", c.TokenFilePath)
	if err != nil {
		return proof{}, err
	}
	token := strings.TrimSpace(content)
	if token == "" {
		return proof{}, fmt.Errorf("token_file_path: %s: %w", c.TokenFilePath, errEmpty)
	}
	return proof{
		fingerprint: fingerprint(token),
		exchange: s.withAssertion(c.TenantID, c.ClientID, func() (string, error) {
			return token, nil
		}),
	}, nil
}
