package config

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestFetchTLSFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, []byte(" pem\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, ctx := range map[string]context.Context{"a context": t.Context(), "nil": nil} {
		if text, err := (tlsFiles{}).Fetch(ctx, path); text != "pem" || err != nil {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (tlsFiles{}).Fetch(ended, path); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled context: error %v", err)
	}
}
