package exporter

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mde-exporter/mde_exporter/config"
)

// BenchmarkLoad loads, prepares and discards 50 tenants with a shared list of
// 10,000 domains in four files.
func BenchmarkLoad(b *testing.B) {
	const tenants, files, domains = 50, 4, 2500
	dir := b.TempDir()
	for i := range files {
		var list strings.Builder
		for j := range domains {
			fmt.Fprintf(&list, "host%d.list%d.example\n", j, i)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.txt", i)), []byte(list.String()), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	var file strings.Builder
	file.WriteString("global: {watched_domains: {files: ['*.txt']}}\ntenants:\n")
	for i := range tenants {
		fmt.Fprintf(&file, "- {name: t%d, azuread: {managed_identity: {}}}\n", i)
	}
	path := filepath.Join(dir, "mde.yml")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		e := New(Options{Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler)})
		c, err := config.Load(path, config.Overrides{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := e.prepare(c); err != nil {
			b.Fatal(err)
		}
	}
}
