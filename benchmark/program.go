package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// program is the released exporter: stripped, and run with a configuration file.
type program struct {
	path    string
	bytes   int64
	modules int // Linked modules, without the main one.
}

// build builds the program in the parent directory.
func build(ctx context.Context, directory string) (*program, error) {
	p := &program{path: filepath.Join(directory, "mde_exporter")}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "netgo,osusergo", "-ldflags", "-s -w", "-o", p.path, ".") //nolint:gosec // The arguments are constant.
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the program: %w\n%s", err, out)
	}
	file, err := os.Stat(p.path)
	if err != nil {
		return nil, err
	}
	info, err := buildinfo.ReadFile(p.path)
	if err != nil {
		return nil, err
	}
	p.bytes, p.modules = file.Size(), len(info.Deps)
	return p, nil
}

// configure writes a configuration file for the tenant.
func (f *simulatedTenant) configure(directory, source string) (path string, err error) {
	authority := filepath.Join(directory, "authority.pem")
	if err := os.WriteFile(authority, f.Authority, 0o600); err != nil {
		return "", err
	}
	path = filepath.Join(directory, source+".yml")
	text := fmt.Sprintf(`global:
  security_states: {source: %s, tags: [%s]}
  watched_domains: {enabled: false}
tenants:
- name: benchmark
  azuread:
    oauth: {tenant_id: %s, client_id: %s, client_secret: %s}
  endpoints: {login_url: %q, graph_url: %q, api_url: %q}
  http_config: {tls_config: {ca_file: %q}}
`, source, strings.Join(tags, ", "), f.TenantID, f.ClientID, f.ClientSecret, f.URL, f.URL, f.URL, authority)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// once runs --once and returns the peak resident set in bytes. The quota applies, so a
// fleet of a million takes minutes.
func (p *program) once(ctx context.Context, configuration string) (most int64, err error) {
	cmd := exec.CommandContext(ctx, p.path, "--config.file="+configuration, "--once") //nolint:gosec // Built by build.
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			return most, err
		case <-time.After(5 * time.Millisecond):
			most = max(most, resident(strconv.Itoa(cmd.Process.Pid), peak))
		}
	}
}

// serve starts the program, scrapes it as early as possible, waits until it is idle and
// stops it. It returns the time from exec to the first successful scrape, and the
// resident set when idle in bytes.
func (p *program) serve(ctx context.Context, configuration string) (first time.Duration, idle int64, err error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return 0, 0, err
	}
	cmd := exec.CommandContext(ctx, p.path, "--config.file="+configuration, "--web.listen-address="+address, "--log.level=error") //nolint:gosec // Built by build.
	cmd.Stderr = os.Stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer func() {
		err = errors.Join(err, cmd.Process.Signal(os.Interrupt), cmd.Wait())
	}()
	if err := await(ctx, "http://"+address+"/metrics", time.Millisecond); err != nil {
		return 0, 0, err
	}
	first = time.Since(began)
	if err := await(ctx, "http://"+address+"/-/ready", 50*time.Millisecond); err != nil {
		return 0, 0, err
	}
	time.Sleep(2 * time.Second)
	return first, resident(strconv.Itoa(cmd.Process.Pid), now), nil
}

// await repeats a request until the response is 200.
func await(ctx context.Context, address string, pause time.Duration) error {
	deadline := time.Now().Add(time.Minute)
	for {
		response, err := get(ctx, http.DefaultClient, address, "")
		if err == nil {
			_, err = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}

func freeAddress(ctx context.Context) (string, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
