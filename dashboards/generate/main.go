// Command generate writes the Grafana dashboards of this repository.
//
// A dashboard is described in one file each (tenants.go, fleet.go, coverage.go,
// trend.go, watcheddomains.go, exporter.go), in the order a reader sees it; panel.go and dashboard.go turn
// the descriptions into Grafana's JSON. Run it with
//
//	go generate ./dashboards
package main

import (
	"flag"
	"log"
	"os"
	"path/filepath"
)

func main() {
	dir := flag.String("dir", ".", "directory to write the dashboards to")
	flag.Parse()
	for name, dashboard := range dashboards() {
		if err := os.WriteFile(filepath.Join(*dir, name), dashboard.json(), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

// dashboards maps the name of each file to the dashboard in it.
func dashboards() map[string]dashboard {
	return map[string]dashboard{
		"tenants.json":         tenants(),
		"fleet.json":           fleet(),
		"coverage.json":        coverage(),
		"trend.json":           trend(),
		"watched-domains.json": watchedDomains(),
		"exporter.json":        exporter(),
	}
}
