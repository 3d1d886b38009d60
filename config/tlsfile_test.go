//go:build unix

package config_test

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTLSFilesWithWindowsLineEndings(t *testing.T) {
	ca := newAuthority(t)
	server := ca.startTLS(t, tls.RequireAndVerifyClientCert)
	cert, key := ca.issue(t, time.Now().Add(time.Hour), false)
	windows := func(text string) string { return "\ufeff" + strings.ReplaceAll(text, "\n", "\r\n") }
	path := write(t, map[string]string{
		"mde.yml":  oneTenant + "  http_config: {tls_config: {ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem}}\n",
		"ca.pem":   windows(ca.pem()),
		"cert.pem": windows(cert),
		"key.pem":  windows(key),
	})
	if got, err := get(t, mustLoad(t, path), server.URL); got != "HTTP/2.0 mde" || err != nil {
		t.Errorf("got %q, %v, want HTTP/2.0 mde", got, err)
	}
}

// TLS files are read again at run time. A file that became a named pipe must fail the
// call instead of blocking it.
func TestTLSFileReplacedByNamedPipeFailsTheCall(t *testing.T) {
	ca := newAuthority(t)
	server := ca.startTLS(t, tls.RequireAndVerifyClientCert)
	cert, key := ca.issue(t, time.Now().Add(time.Hour), false)
	for _, name := range []string{"ca.pem", "cert.pem", "key.pem"} {
		t.Run(name, func(t *testing.T) {
			path := write(t, map[string]string{
				"mde.yml":  oneTenant + "  http_config: {tls_config: {ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem}}\n",
				"ca.pem":   ca.pem(),
				"cert.pem": cert,
				"key.pem":  key,
			})
			o := options(t, mustLoad(t, path).Tenants[0])
			pipe := filepath.Join(filepath.Dir(path), name)
			if err := os.Remove(pipe); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mkfifo(pipe, 0o600); err != nil {
				t.Fatal(err)
			}
			failed := make(chan error, 1)
			go func() {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
				if err == nil {
					_, err = o.Transport.RoundTrip(request) //nolint:bodyclose // There is no response.
				}
				failed <- err
			}()
			select {
			case err := <-failed:
				if err == nil || !strings.Contains(err.Error(), "a named pipe, not a regular file") {
					t.Errorf("error %v", err)
				}
			case <-time.After(5 * time.Second):
				t.Error("the call hangs")
				// Unblock the reader.
				if f, err := os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
					f.Close()
				}
			}
		})
	}
}
