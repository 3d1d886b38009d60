//go:build unix

package client

import (
	"path/filepath"
	"syscall"
	"testing"
)

// Opening a named pipe blocks until there is a writer, which would block the refresh.
func TestCredentialFileMustNotBeANamedPipe(t *testing.T) {
	for name, file := range credentialFiles(t) {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pipe")
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			checkUnusableFile(t, file, path, "not a regular file")
		})
	}
}
