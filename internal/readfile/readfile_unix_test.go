//go:build unix

package readfile

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestNamedPipeIsRejectedWithoutBlocking(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Bytes(t.Context(), path, 10); err == nil || !strings.Contains(err.Error(), "a named pipe, not a regular file") {
		t.Errorf("error is %v", err)
	}
}
