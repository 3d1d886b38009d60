package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// snippets returns the YAML files in a page by the name in their first line.
func snippets(t *testing.T, page string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		comment, content, _ := strings.Cut(m[1], "\n")
		name, named := strings.CutPrefix(comment, "# ")
		if !named || files[name] != "" {
			t.Fatalf("%s: file without a unique name: %s", page, comment)
		}
		files[name] = content
	}
	return files
}

// checkConfig runs --config.check in a directory with the files, a certificate and its
// key. It returns the output.
func checkConfig(t *testing.T, dir string, files map[string]string) string {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	server.Close()
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certificatePEM := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	keyPEM := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	all := map[string]string{"app.pem": certificatePEM + keyPEM, "tls.crt": certificatePEM, "tls.key": keyPEM}
	for name, content := range files {
		all[name] = strings.ReplaceAll(content, "/etc/mde_exporter_secrets/defender-certificate/", "")
	}
	for name, content := range all {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := parseFlags([]string{"--config.check", "--config.file=" + filepath.Join(dir, "mde.yml")}, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := f.run(t.Context(), &out, io.Discard); err != nil {
		t.Errorf("%v", err)
	}
	if c, err := (&tenantSources{flags: f}).load(); err == nil {
		fmt.Fprintln(&out, len(c.Tenants), "tenants")
	}
	return out.String()
}

func TestProviderPageServerConfiguration(t *testing.T) {
	const page = "docs/provider.md"
	files := snippets(t, page)
	delete(files, "values.yaml")
	if len(files) != 3 {
		t.Errorf("%d files, want mde.yml and two tenants", len(files))
	}
	dir := t.TempDir()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, script, found := strings.Cut(string(text), "<!-- test: run -->\n```sh\n")
	if !found {
		t.Fatal("no script")
	}
	script, _, _ = strings.Cut(script, "```")
	var customers strings.Builder
	for i := range 38 {
		fmt.Fprintf(&customers, "customer-%02d 11111111-1111-4111-8111-%012d\n", i, i)
	}
	if err := os.WriteFile(filepath.Join(dir, "customers.txt"), []byte(customers.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	command := exec.CommandContext(t.Context(), shell, "-euc", script)
	command.Dir = dir
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out := checkConfig(t, dir, files); !strings.Contains(out, "mde.yml is valid\n40 tenants\n") || strings.Contains(out, "warning:") {
		t.Errorf("--config.check prints:\n%s", out)
	}
}

func TestProviderPageChartValues(t *testing.T) {
	values := snippets(t, "docs/provider.md")["values.yaml"]
	example, err := os.ReadFile("deploy/helm/mde-exporter/examples/provider.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(example), "\n"+values) {
		t.Error("examples/provider.yaml of the chart differs from the page")
	}
	var chart struct {
		Config yaml.Node
		Files  map[string]yaml.Node
	}
	if err := yaml.Unmarshal([]byte(values), &chart); err != nil {
		t.Fatal(err)
	}
	chart.Files["mde.yml"] = chart.Config
	files := map[string]string{}
	for name, node := range chart.Files {
		content, err := yaml.Marshal(&node)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(content)
	}
	if out := checkConfig(t, t.TempDir(), files); !strings.Contains(out, "mde.yml is valid\n2 tenants\n") {
		t.Errorf("--config.check prints:\n%s", out)
	}
}

// The example about sharing settings is valid.
func TestSharedSettingsExampleIsValid(t *testing.T) {
	text, err := os.ReadFile("docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## What tenants share\n")
	_, example, found := strings.Cut(section, "```yaml\n")
	if !found {
		t.Fatal("no example")
	}
	example, _, _ = strings.Cut(example, "```")
	if out := checkConfig(t, t.TempDir(), map[string]string{
		"mde.yml": strings.Replace(example, "secrets/app.pem", "app.pem", 1), "secrets/fabrikam": "hush",
	}); !strings.Contains(out, "mde.yml is valid\n2 tenants\n") {
		t.Errorf("--config.check prints:\n%s", out)
	}
}
