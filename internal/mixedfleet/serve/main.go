// Command serve serves the mixed fleet on loopback until it is interrupted. It
// writes mde.yml for the exporter and prometheus.yml for a Prometheus to -dir.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/mde-exporter/mde_exporter/internal/mixedfleet"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

func main() {
	dir := flag.String("dir", ".build/mixed-fleet", "directory to write the configuration files to")
	exporter := flag.String("exporter", "127.0.0.1:10058", "address of the exporter, for prometheus.yml")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := serve(ctx, *dir, *exporter)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, dir, exporter string) error {
	fleet, err := mixedfleet.Start(simulation.ListenOptions{})
	if err != nil {
		return err
	}
	defer fleet.Close()
	prometheus := fmt.Sprintf("global: {scrape_interval: 15s}\nscrape_configs:\n- job_name: mde\n  static_configs: [{targets: [%q]}]\n", exporter)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // Simulated tenants have no secrets.
		return err
	}
	for name, content := range map[string]string{"mde.yml": fleet.Configuration(), "prometheus.yml": prometheus} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil { //nolint:gosec // Likewise.
			return err
		}
	}
	fmt.Printf(`%d tenants are served until you press Ctrl+C. In other terminals:

go run . --config.file=%[2]s/mde.yml --web.listen-address=%[3]s
prometheus --config.file=%[2]s/prometheus.yml --storage.tsdb.path=%[2]s/data
`, len(fleet), dir, exporter)
	<-ctx.Done()
	return nil
}
