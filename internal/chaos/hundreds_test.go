package chaos

import (
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// BenchmarkHundredsOfTenants starts the program with 500 tenants and measures the
// cost of each once all were refreshed. Most of its time is the staggered start.
func BenchmarkHundredsOfTenants(b *testing.B) {
	const tenants = 500
	sim := simulation.New(simulation.Options{MultiTenant: true, Machines: 200, PageSize: 100})
	sim.Contact("evil.example", 20)
	server, err := sim.Listen(simulation.ListenOptions{Separate: true})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	dir := b.TempDir()
	binary := build(b)
	for b.Loop() {
		few := measureTenants(b, binary, dir, sim, server, 1)
		many := measureTenants(b, binary, dir, sim, server, tenants)
		each := func(of func(footprint) float64) float64 { return (of(many) - of(few)) / (tenants - 1) }
		b.ReportMetric(many.resident/(1<<20), "MiB")
		b.ReportMetric(each(func(f footprint) float64 { return f.resident })/(1<<10), "KiB/tenant")
		b.ReportMetric(each(func(f footprint) float64 { return f.goroutines }), "goroutines/tenant")
		b.ReportMetric(each(func(f footprint) float64 { return f.files }), "files/tenant")
		b.ReportMetric(each(func(f footprint) float64 { return f.processor })*1000, "cpu-ms/tenant")
		b.ReportMetric(many.covered.Seconds(), "s-to-all")
		b.ReportMetric(float64(many.scrape)/1e6, "ms/scrape")
		b.ReportMetric(each(func(f footprint) float64 { return f.series }), "series/tenant")
		b.ReportMetric(float64(many.busiest), "calls/busiest-s")
	}
}

// footprint contains the program's costs once every tenant was refreshed.
type footprint struct {
	resident, goroutines, files, processor, series float64

	covered time.Duration // Time from the start until every tenant has values.
	scrape  time.Duration // Median scrape duration.
	busiest int           // Most calls within a second.
}

func measureTenants(b *testing.B, binary, dir string, sim *simulation.Tenant, server *simulation.Server, tenants int) footprint {
	b.Helper()
	var config strings.Builder
	config.WriteString("global: {watched_domains: {domains: [evil.example]}}\ntenants:\n")
	for i := range tenants {
		fmt.Fprintf(&config, "- {name: t%04[1]d, azuread: {oauth: {tenant_id: 00000000-0000-4000-8000-%012[1]d, client_id: %s, client_secret: %s}}, endpoints: {login_url: %q, graph_url: %q, api_url: %q}}\n",
			i, sim.ClientID(), sim.ClientSecret(), server.LoginURL, server.GraphURL, server.APIURL)
	}
	file := filepath.Join(dir, "mde.yml")
	if err := os.WriteFile(file, []byte(config.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	sim.ForgetCalls()
	p := newProgram(b, binary, "--config.file="+file, "--storage.path="+filepath.Join(dir, fmt.Sprint("storage-", tenants)))
	start := time.Now()
	p.start()
	for sum(p.scrape().samples("mde_refresh_success")) < float64(2*tenants) {
		if time.Since(start) > 5*time.Minute {
			b.Fatalf("not every tenant was refreshed\n%s", p.logged())
		}
		time.Sleep(500 * time.Millisecond)
	}
	f := footprint{covered: time.Since(start), busiest: sim.Busiest(simulation.Every, time.Second)}
	if failures := sum(p.scrape().samples("mde_refresh_failures_total")); failures > 0 {
		b.Fatalf("%v refreshes failed\n%s", failures, p.logged())
	}
	scrapes := make([]time.Duration, 0, 9)
	for range cap(scrapes) {
		begin := time.Now()
		p.request(http.MethodGet, "/metrics", "text/plain")
		scrapes = append(scrapes, time.Since(begin))
	}
	slices.Sort(scrapes)
	f.scrape = scrapes[len(scrapes)/2]
	e := p.scrape()
	for _, samples := range e {
		f.series += float64(len(samples))
	}
	metric := func(name string) float64 {
		v, ok := e.value(name)
		if !ok || math.IsNaN(v) {
			b.Fatalf("no %s", name)
		}
		return v
	}
	f.resident, f.goroutines = metric("process_resident_memory_bytes"), metric("go_goroutines")
	f.files, f.processor = metric("process_open_fds"), metric("process_cpu_seconds_total")
	if code := p.signal(syscall.SIGTERM); code != 0 {
		b.Errorf("exit code %d", code)
	}
	return f
}
