package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/mde-exporter/mde_exporter/internal/readfile"
)

// The protocol of Azure Arc's Connected Machine agent:
// https://learn.microsoft.com/azure/azure-arc/servers/managed-identity-authentication
const (
	arcVersion = "2020-06-01"
	// maxArcKey is the maximum size of a key file in bytes.
	maxArcKey = 4 << 10
)

// arcTokenDirectory returns the directory of the agent's key files.
func arcTokenDirectory() string {
	if runtime.GOOS == "windows" {
		return filepath.Join(os.Getenv("ProgramData"), "AzureConnectedMachineAgent", "Tokens")
	}
	return "/var/opt/azcmagent/tokens"
}

// arcError adds Azure Arc and the advice for it to an error.
func arcError(e *Error) *Error {
	e.Message = strings.TrimSuffix("Azure Arc: "+e.Message, ": ")
	switch {
	case e.advice != "":
	case errors.Is(e, fs.ErrPermission):
		e.advice = "add the user that runs the exporter to the group himds, or on Windows to Hybrid agent extension applications"
	case e.Reason == ReasonNetwork, e.Reason == ReasonTimeout, e.Reason == ReasonAuth && e.Err == nil:
		e.advice = "check with azcmagent show that the agent runs and is connected"
	}
	return e
}

// arcKey returns the content of the key file that the agent's challenge names.
func (c ManagedIdentity) arcKey(ctx context.Context, challenge http.Header) (string, error) {
	path, err := arcKeyFile(challenge, cmp.Or(c.arcTokens, arcTokenDirectory()))
	if err != nil {
		return "", err
	}
	// The agent only creates regular files. A symbolic link could lead to any file.
	info, err := os.Lstat(path)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		err = &fs.PathError{Op: "read", Path: path, Err: errors.New("a symbolic link, not a regular file")}
	}
	if err != nil {
		return "", err
	}
	content, err := readfile.Text(ctx, path, maxArcKey)
	if err != nil {
		return "", err
	}
	key := strings.TrimSpace(string(content))
	switch {
	case key == "":
		return "", fmt.Errorf("%s: %w", path, errEmpty)
	case strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }):
		return "", fmt.Errorf("%s: not a key: it contains characters that are invalid in a header", path)
	}
	return key, nil
}

// arcKeyFile returns FILE of "WWW-Authenticate: Basic realm=FILE". The endpoint may not
// be the agent, so the file must be directly in dir and have the extension .key.
func arcKeyFile(challenge http.Header, dir string) (string, error) {
	for _, value := range challenge.Values("WWW-Authenticate") {
		scheme, parameter, _ := strings.Cut(strings.TrimSpace(value), " ")
		name, file, ok := strings.Cut(strings.TrimSpace(parameter), "=")
		if !ok || !strings.EqualFold(scheme, "Basic") || !strings.EqualFold(name, "realm") {
			continue
		}
		file = strings.Trim(file, `"`)
		if file != filepath.Join(dir, filepath.Base(file)) || filepath.Ext(file) != ".key" {
			return "", fmt.Errorf("the realm in WWW-Authenticate is not a .key file directly in %s: %.100q", dir, file)
		}
		return file, nil
	}
	return "", errors.New("the response has no WWW-Authenticate: Basic realm=FILE")
}
