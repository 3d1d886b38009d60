package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// lockedBuffer is a buffer that is safe for concurrent use.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tenantYAML returns a tenant whose endpoints refuse connections.
func tenantYAML(name string) string {
	return "name: " + name + `
azuread: {oauth: {tenant_id: t, client_id: c, client_secret: hush, client_secret_expires: 2027-01-31}}
endpoints: {login_url: "http://127.0.0.1:1", graph_url: "http://127.0.0.1:1", api_url: "http://127.0.0.1:1"}
`
}

func TestAutoReload(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A ConfigMap is mounted as links into a directory, which is itself a link that an
	// update replaces.
	publish := func(version string) {
		t.Helper()
		if err := os.Symlink(version, filepath.Join(dir, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	const main = "tenant_files: [tenant-*.yml]\n"
	put("..1/mde.yml", main)
	put("..2/mde.yml", main)
	put("..3/mde.yml", main)
	put("..1/tenant-a.yml", tenantYAML("contoso"))
	put("..2/tenant-a.yml", tenantYAML("contoso")+"colour: red\n")
	put("..3/tenant-a.yml", tenantYAML("fabrikam"))
	publish("..1")
	for _, name := range []string{"mde.yml", "tenant-a.yml"} {
		if err := os.Symlink("..data/"+name, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}

	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	f, err := parseFlags([]string{
		"--config.file=" + filepath.Join(dir, "mde.yml"), "--config.auto-reload-interval=20ms", "--web.listen-address=" + address,
	}, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	log := &lockedBuffer{}
	ended := make(chan error, 1)
	go func() { ended <- f.run(ctx, io.Discard, log) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	scrape := func() string {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return ""
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return ""
		}
		return string(body)
	}
	await := func(lines ...string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			metrics := scrape()
			missing := ""
			for _, line := range lines {
				if !strings.Contains(metrics, "\n"+line) {
					missing = line
				}
			}
			if missing == "" {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("no line %s; log:\n%s", missing, log)
			}
		}
	}
	const expiry = `mde_credential_expiry_timestamp_seconds{tenant="contoso"} 1.801353`
	await(expiry, "mde_exporter_config_last_reload_successful 1")
	publish("..2")
	await("mde_exporter_config_last_reload_successful 0", expiry)
	time.Sleep(200 * time.Millisecond) // Ten checks of the same file.
	if n := strings.Count(log.String(), "tenant-a.yml:4: unknown key"); n != 1 {
		t.Errorf("mistake logged %d times, want once:\n%s", n, log)
	}
	publish("..3")
	await("mde_exporter_config_last_reload_successful 1", `mde_credential_expiry_timestamp_seconds{tenant="fabrikam"}`)
	if strings.Contains(scrape(), `tenant="contoso"`) {
		t.Error("removed tenant still has series")
	}
}

func TestTenantFlag(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mde.yml")
	for i, name := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), string(rune('0'+i))+".tenant"), []byte(tenantYAML(name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, []byte("tenant_files: ['*.tenant']\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ args, want, mistake string }{
		{"--once", "a b c", ""},
		{"--once --tenant=b", "b", ""},
		{"--diagnose --tenant=c --tenant=a --tenant=c", "c a", ""},
		{"--once --shard=1 --total-shards=2", "a c", ""},
		{"--once --tenant=b --shard=1 --total-shards=2", "b", ""},
		{"--once --tenant=b --tenant=d", "", `--tenant: ` + path + ` has no tenant "d"`},
		{"--tenant=b", "", "--tenant: only allowed with --once or --diagnose"},
	} {
		f, err := parseFlags(append(strings.Fields(test.args), "--config.file="+path), io.Discard, io.Discard)
		var names []string
		if err == nil {
			c, loadErr := (&tenantSources{flags: f}).load()
			if err = loadErr; err == nil {
				for _, tenant := range c.Tenants {
					names = append(names, tenant.Name)
				}
			}
		}
		mistake := ""
		if err != nil {
			mistake = err.Error()
		}
		if got := strings.Join(names, " "); got != test.want || mistake != test.mistake {
			t.Errorf("%s: tenants %q, error %q; want %q, %q", test.args, got, mistake, test.want, test.mistake)
		}
	}
}
