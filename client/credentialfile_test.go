package client

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
)

// A credentialFile is a credential that reads one file, and what it sends to the sign-in
// host.
type credentialFile struct {
	key        string
	credential func(path string) Credential
	content    string
	shown      func(r *http.Request) string
}

func credentialFiles(t *testing.T) map[string]credentialFile {
	now := time.Now()
	leaf := makeCertificate(t, testKeys()[0], now.Add(-time.Hour), now.Add(time.Hour))
	certificatePEM, keyPEM := pemOf("CERTIFICATE", leaf), pemOf("PRIVATE KEY", pkcs8(t, testKeys()[0]))
	dir := t.TempDir()
	certificateFile := writeFile(t, filepath.Join(dir, "cert.pem"), certificatePEM)
	signed := func(r *http.Request) string {
		verifyAssertion(t, r.PostForm.Get("client_assertion"), leaf)
		return ""
	}
	return map[string]credentialFile{
		"secret": {
			key: "client_secret_file",
			credential: func(path string) Credential {
				return ClientSecret{TenantID: "tenant", ClientID: "app", SecretFile: path}
			},
			content: "s3cr3t",
			shown:   func(r *http.Request) string { return r.PostForm.Get("client_secret") },
		},
		"assertion": {
			key: "token_file_path",
			credential: func(path string) Credential {
				return WorkloadIdentity{TenantID: "tenant", ClientID: "app", TokenFilePath: path}
			},
			content: "a.federated.token",
			shown:   func(r *http.Request) string { return r.PostForm.Get("client_assertion") },
		},
		"certificate with key": {
			key: "certificate_path",
			credential: func(path string) Credential {
				return Certificate{TenantID: "tenant", ClientID: "app", CertificatePath: path}
			},
			content: certificatePEM + keyPEM,
			shown:   signed,
		},
		"key": {
			key: "certificate_key_path",
			credential: func(path string) Credential {
				return Certificate{TenantID: "tenant", ClientID: "app", CertificatePath: certificateFile, KeyPath: path}
			},
			content: keyPEM,
			shown:   signed,
		},
	}
}

func TestCredentialFilesWithBOMAndCRLFSignIn(t *testing.T) {
	for name, file := range credentialFiles(t) {
		for encoding, content := range map[string]string{
			"as is":               file.content,
			"mark":                "\ufeff" + file.content,
			"mark and line break": "\ufeff" + file.content + "\r\n",
			"CRLF":                "\ufeff" + strings.ReplaceAll(file.content, "\n", "\r\n"),
		} {
			t.Run(name+", "+encoding, func(t *testing.T) {
				want := ""
				if !strings.Contains(file.content, "-----") {
					want = file.content
				}
				tokens, _ := testTokens(file.credential(writeFile(t, filepath.Join(t.TempDir(), "file"), content)), func(w http.ResponseWriter, r *http.Request) {
					if got := file.shown(r); got != want {
						t.Errorf("the sign-in host got %q, want %q", got, want)
					}
					giveToken(w, "good", time.Hour)
				})
				mustToken(t, tokens)
			})
		}
	}
}

func TestUTF16CredentialFileFailsWithoutRequest(t *testing.T) {
	for name, file := range credentialFiles(t) {
		units := utf16.Encode([]rune(file.content))
		var little, big strings.Builder
		for _, unit := range units {
			little.Write([]byte{byte(unit), byte(unit >> 8)})
			big.Write([]byte{byte(unit >> 8), byte(unit)})
		}
		for encoding, content := range map[string]string{
			"little-endian with a mark":    "\xff\xfe" + little.String(),
			"big-endian with a mark":       "\xfe\xff" + big.String(),
			"little-endian without a mark": little.String(),
			"big-endian without a mark":    big.String(),
		} {
			t.Run(name+", "+encoding, func(t *testing.T) {
				path := writeFile(t, filepath.Join(t.TempDir(), "file"), content)
				checkUnusableFile(t, file, path, "UTF-16")
			})
		}
	}
}

// checkUnusableFile fails unless signing in fails without a request and with an error that
// names the key, the file and the cause.
func checkUnusableFile(t *testing.T, file credentialFile, path, cause string) {
	t.Helper()
	tokens, f := testTokens(file.credential(path), wrongSecret)
	_, err := tokens.token(t.Context())
	for _, want := range []string{file.key + ": ", path, cause} {
		if ReasonOf(err) != ReasonAuth || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
	if f.requests() != 0 {
		t.Error("a request was made")
	}
}

func TestCredentialFileMustBeRegularAndSmall(t *testing.T) {
	for name, file := range credentialFiles(t) {
		t.Run(name, func(t *testing.T) {
			checkUnusableFile(t, file, t.TempDir(), "not a regular file")
			checkUnusableFile(t, file, filepath.Join(t.TempDir(), "none"), "no such file")
			checkUnusableFile(t, file, writeFile(t, filepath.Join(t.TempDir(), "file"), strings.Repeat("x", 2<<20)), "larger than 1 MiB")
		})
	}
}
