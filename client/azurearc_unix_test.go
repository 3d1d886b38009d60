//go:build unix

package client

import (
	"strings"
	"testing"
)

func TestAzureArcKeyDirectoryIsAgentDirectory(t *testing.T) {
	agent := &arcAgent{t: t, challenge: "Basic realm=/var/opt/azcmagent/tokens/missing/a.key"}
	_, err := agent.arcTokens().token(t.Context())
	if err == nil || !strings.Contains(err.Error(), "directly in /var/opt/azcmagent/tokens:") {
		t.Errorf("error %v", err)
	}
}
