package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// TestSizing measures the rows of the table in docs/deployment.md. The released program
// without storage reads each fleet three times and looks up each domain once, while it
// is scraped.
func TestSizing(t *testing.T) {
	p, err := build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	table := "\n| tenants | machines each | domains each | peak MiB | processor time of a refresh | calls of a refresh, each tenant | series |\n|---|---|---|---|---|---|---|\n"
	for _, size := range []struct{ tenants, machines, domains int }{
		{1, 1_000, 10}, {1, 10_000, 1_000}, {1, 10_000, 10_000}, {1, 100_000, 100}, {1, 1_000_000, 100}, {100, 1_000, 10}, {500, 1_000, 10},
	} {
		if size.machines*size.tenants > 1_000 && !*long {
			continue
		}
		t.Run(fmt.Sprintf("%d tenants of %d machines and %d domains", size.tenants, size.machines, size.domains), func(t *testing.T) {
			c, err := p.measure(t, size.tenants, size.machines, size.domains)
			if err != nil {
				t.Fatal(err)
			}
			table += fmt.Sprintf("| %d | %d | %d | %.0f | %.2f s | %d | %d |\n", size.tenants, size.machines, size.domains, mib(c.peak), c.processor, c.calls/size.tenants, c.series)
		})
	}
	t.Log(table)
}

type sizing struct {
	peak      int64
	processor float64 // Seconds for the start and the first refresh of everything.
	calls     int     // Calls of the first refresh of everything, without tokens.
	series    int     // Without the series of the process.
}

// measure runs the program with tenants that share one fleet. A tenth of the domains
// were contacted.
func (p *program) measure(t *testing.T, tenants, fleet, domains int) (s sizing, err error) {
	contacted := make(map[string]simulation.Domain)
	var names strings.Builder
	for i := range domains {
		name := fmt.Sprintf("domain-%05d.example", i)
		fmt.Fprintln(&names, name)
		if i%10 == 0 {
			contacted[name] = simulation.Domain{Machines: 5}
		}
	}
	tenant := simulation.New(simulation.Options{
		MultiTenant: true, Machines: fleet, PageSize: fullPage, CallLog: -1, CachePages: true, Domains: contacted, TokenLifetime: 24 * time.Hour,
	})
	server, err := tenant.Listen(simulation.ListenOptions{})
	if err != nil {
		return s, err
	}
	defer server.Close()
	dir := t.TempDir()
	var config strings.Builder
	// The large quota allows reading a long list within seconds.
	fmt.Fprintf(&config, "global:\n  quota: {calls_per_minute: %[1]d, calls_per_hour: %[1]d}\n  security_states: {source: machines, refresh_interval: %[2]ds, max_age: 1h}\n  watched_domains: {files: [domains.txt]}\ntenants:\n",
		2*domains+1000, 1+tenants/5)
	for i := range tenants {
		fmt.Fprintf(&config, "- {name: t%03[1]d, azuread: {oauth: {tenant_id: 00000000-0000-4000-8000-%012[1]d, client_id: %[2]s, client_secret: %[3]s}}, endpoints: {login_url: %[4]q, graph_url: %[4]q, api_url: %[4]q}}\n",
			i, tenant.ClientID(), tenant.ClientSecret(), server.APIURL)
	}
	for name, content := range map[string]string{"mde.yml": config.String(), "domains.txt": names.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return s, err
		}
	}
	address, err := freeAddress(t.Context())
	if err != nil {
		return s, err
	}
	cmd := exec.CommandContext(t.Context(), p.path, "--config.file="+filepath.Join(dir, "mde.yml"), "--web.listen-address="+address, "--log.level=error")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, cmd.Process.Signal(os.Interrupt), cmd.Wait()) }()
	if err := await(t.Context(), "http://"+address+"/-/healthy", 50*time.Millisecond); err != nil {
		return s, err
	}
	pause := time.Second
	if tenants > 1 {
		pause = 15 * time.Second // Scrapes of many tenants cost more than the refreshes.
	}
	for begun := time.Now(); time.Since(begun) < 15*time.Minute; time.Sleep(pause) {
		now, err := scrapeOnce(t.Context(), "http://"+address+"/metrics")
		if err != nil {
			return s, err
		}
		if s.processor == 0 && now.succeeded == 2*tenants {
			s.processor, s.calls = now.processor, now.calls
		}
		if s.processor > 0 && now.fleets >= 3 {
			s.peak, s.series = resident(strconv.Itoa(cmd.Process.Pid), peak), now.series
			return s, nil
		}
	}
	return s, errors.New("not all was read within 15 minutes")
}

// scraped holds the values of a scrape.
type scraped struct {
	series, succeeded int     // succeeded counts collectors.
	fleets            int     // Minimum number of refreshes of a fleet.
	calls             int     // API calls without tokens.
	processor         float64 // Seconds.
}

func scrapeOnce(ctx context.Context, address string) (s scraped, err error) {
	response, err := get(ctx, http.DefaultClient, address, "")
	if err != nil {
		return s, err
	}
	defer func() { _ = response.Body.Close() }()
	fleets := math.Inf(1)
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		sample, text, _ := strings.Cut(lines.Text(), " ")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue // A comment.
		}
		switch {
		case strings.HasPrefix(sample, "mde_") && !strings.HasPrefix(sample, "mde_exporter_"):
			s.series++
			switch {
			case strings.HasPrefix(sample, "mde_refresh_success{"):
				s.succeeded += int(value)
			case strings.HasPrefix(sample, "mde_api_requests_total{") && !strings.Contains(sample, `"token"`):
				s.calls += int(value)
			case strings.HasPrefix(sample, `mde_refreshes_total{collector="security_states"`):
				fleets = min(fleets, value)
			}
		case sample == "process_cpu_seconds_total":
			s.processor = value
		}
	}
	s.fleets = int(fleets)
	return s, lines.Err()
}
