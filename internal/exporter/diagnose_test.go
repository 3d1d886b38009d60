package exporter

import (
	"encoding/pem"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mde-exporter/mde_exporter/config"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

func TestDiagnoseContinuesWhenOneTenantHasNoClient(t *testing.T) {
	sim := newSimulatedTenant(t, simulation.Options{Machines: 5})
	server := httptest.NewTLSServer(nil)
	server.Close()
	dir := t.TempDir()
	file, ca := filepath.Join(dir, "mde.yml"), filepath.Join(dir, "ca.pem")
	for path, content := range map[string][]byte{
		ca: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		file: []byte("tenants:" + sim.section("contoso", "  http_config: {tls_config: {ca_file: ca.pem}}\n") +
			sim.section("fabrikam", "")),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	testExporter := New(Options{
		Load: func() (*config.Config, error) {
			c, err := config.Load(file, config.Overrides{})
			_ = os.Remove(ca) // A rotation may remove it between validation and use.
			return c, err
		},
		Registry: prometheus.NewRegistry(),
		Logger:   slog.New(slog.DiscardHandler),
	})
	defer testExporter.Close()
	diagnoses, err := testExporter.Diagnose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := diagnoses[0]; d.Complete() || len(d.Checks) != 1 || !strings.Contains(d.Checks[0].Found, "http_config.tls_config") {
		t.Errorf("contoso: %v", d)
	}
	if d := diagnoses[1]; d.Tenant != "fabrikam" || !d.Complete() {
		t.Errorf("fabrikam: %v", d)
	}
}
