package endtoend

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mde-exporter/mde_exporter/internal/servertest"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

const openMetrics = "application/openmetrics-text; version=1.0.0"

// referenceParser parses OpenMetrics from standard input with the parser of the
// specification's authors. It prints each family with its type and its number of
// samples.
const referenceParser = `
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    print(family.name, family.type, len(family.samples))
`

// debianPython is the interpreter with Debian's python3-prometheus-client, which
// tools/install installs if available.
const debianPython = "/usr/bin/python3"

// TestOpenMetricsExpositionIsValid passes all metrics, of the process and of a
// tenant, to the reference parser and to a Prometheus.
func TestOpenMetricsExpositionIsValid(t *testing.T) {
	t.Parallel()
	servertest.Find(t, "prometheus")
	if err := exec.CommandContext(t.Context(), debianPython, "-c", "import prometheus_client").Run(); err != nil {
		t.Skip("needs Debian's python3-prometheus-client")
	}
	sim := newSimulatedTenant(t, simulation.Options{Machines: 200, PreviewStatus: 404, Domains: map[string]simulation.Domain{suspected: {Machines: 7}}})
	exporter := servertest.Exporter(t, "--config.file="+configuration(t, sim.section("contoso", `
  watched_domains: {statistics: true, machine_info_limit: 3, domains: [evil.example]}
`)))
	scrape := func() *response {
		a, err := send(t.Context(), nil, http.MethodGet, exporter.URL()+"/metrics", http.Header{"Accept": {openMetrics}})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	servertest.Eventually(t, "the tenant has values", func() error {
		if body := scrape().body; !strings.Contains(body, "mde_machines_risk{") || !strings.Contains(body, "mde_watched_domain_machines_attention{") {
			return fmt.Errorf("values are missing:\n%s", body)
		}
		return nil
	})

	a := scrape()
	if !strings.HasPrefix(a.header.Get("Content-Type"), openMetrics) || !strings.HasSuffix(a.body, "# EOF\n") {
		t.Fatalf("not an OpenMetrics exposition: %s\n%s", a.header.Get("Content-Type"), a.body)
	}
	parse := exec.CommandContext(t.Context(), debianPython, "-c", referenceParser)
	parse.Stdin = strings.NewReader(a.body)
	var stderr bytes.Buffer
	parse.Stderr = &stderr
	parsed, err := parse.Output()
	if err != nil {
		t.Fatalf("the reference parser rejects the exposition: %v\n%s", err, &stderr)
	}
	var got []string
	samples := map[string]int{}
	for line := range strings.Lines(string(parsed)) {
		var name, kind string
		var n int
		if _, err := fmt.Sscan(line, &name, &kind, &n); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		got = append(got, name)
		samples[name] = n
	}
	var want []string
	for line := range strings.Lines(a.body) {
		if fields := strings.Fields(line); len(fields) == 4 && fields[1] == "TYPE" {
			want = append(want, fields[2])
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the reference parser sees the families %q, want %q", got, want)
	}
	for _, family := range []string{"mde_machines", "mde_api_requests", "mde_api_request_duration_seconds", "go_goroutines", "go_memstats_alloc_bytes"} {
		if samples[family] == 0 {
			t.Errorf("the reference parser sees no sample of %s", family)
		}
	}

	t.Run("and Prometheus scrapes it", func(t *testing.T) {
		// The format that Prometheus prefers depends on its version. The proxy
		// requests only OpenMetrics.
		target, err := url.Parse(exporter.URL())
		if err != nil {
			t.Fatal(err)
		}
		var scrapes atomic.Int64
		proxy := httptest.NewServer(&httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				r.Out.Header.Set("Accept", openMetrics)
			},
			ModifyResponse: func(r *http.Response) error {
				if !strings.HasPrefix(r.Header.Get("Content-Type"), openMetrics) {
					return fmt.Errorf("a scrape got %s", r.Header.Get("Content-Type"))
				}
				scrapes.Add(1)
				return nil
			},
		})
		defer proxy.Close()
		prometheus := servertest.StartPrometheus(t, t.TempDir(), fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
- job_name: defender
  static_configs: [{targets: [%q]}]
`, proxy.Listener.Addr()))
		eventually(t, prometheus, "Prometheus has every family", []expectation{
			single("up", 1),
			single(`count(count by (__name__) ({__name__=~"mde_.+", tenant="contoso"})) > bool 20`, 1),
			single(`sum(mde_machines)`, 200),
		})
		if scrapes.Load() == 0 {
			t.Error("no scrape went through the proxy")
		}
		names, err := prometheus.LabelValues("__name__", `{job="defender"}`)
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range slices.Sorted(maps.Keys(samples)) {
			if samples[family] > 0 && !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, family) }) {
				t.Errorf("Prometheus has no series of %s", family)
			}
		}
	})
}
