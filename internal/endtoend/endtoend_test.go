// Package endtoend tests the program as operators run it: built, started with
// flags, a file or an environment, and called over HTTP. The tests serve
// simulated tenants.
package endtoend

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/internal/servertest"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// simulatedTenant is a simulated tenant that is served until the test ends.
type simulatedTenant struct {
	*simulation.Tenant
	*simulation.Server
}

// newSimulatedTenant serves a tenant, each origin on its own host.
func newSimulatedTenant(t *testing.T, o simulation.Options) *simulatedTenant {
	t.Helper()
	tenant := simulation.New(o)
	server, err := tenant.Listen(simulation.ListenOptions{Separate: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return &simulatedTenant{tenant, server}
}

// section returns a tenant of the configuration file that uses this simulated
// tenant's endpoints and credentials.
func (s *simulatedTenant) section(name, settings string) string {
	return fmt.Sprintf(`
- name: %s
  azuread:
    oauth: {tenant_id: %s, client_id: %s, client_secret: %s}
  endpoints: {login_url: %s, graph_url: %s, api_url: %s}
%s`, name, s.TenantID(), s.ClientID(), s.ClientSecret(), s.LoginURL, s.GraphURL, s.APIURL, settings)
}

// write writes a file and returns its path.
func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// configuration writes a configuration file with these tenants and returns its
// path.
func configuration(t *testing.T, sections ...string) string {
	t.Helper()
	return write(t, filepath.Join(t.TempDir(), "mde.yml"), "tenants:"+strings.Join(sections, ""))
}

// response is the exporter's response to one request.
type response struct {
	status int
	header http.Header
	body   string
}

// requestTimeout is the maximum duration of a request that waits for nothing. It
// is much longer than any request takes, and much shorter than a hanging API.
const requestTimeout = 10 * time.Second

// send sends a request. A nil client means http.DefaultClient.
func send(ctx context.Context, client *http.Client, method, url string, header http.Header) (*response, error) {
	if client == nil {
		client = http.DefaultClient
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	if header != nil {
		request.Header = header
	}
	r, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Body.Close() }()
	body, err := io.ReadAll(r.Body)
	return &response{r.StatusCode, r.Header, string(body)}, err
}

// get requests a path of the exporter.
func get(t *testing.T, p *servertest.Process, path string) *response {
	t.Helper()
	a, err := send(t.Context(), nil, http.MethodGet, p.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// series contains gauges and counters by name and sorted labels, as in
// up{instance="a",job="b"}.
type series map[string]float64

// parse parses metrics in Prometheus's text format.
func parse(t *testing.T, exposition string) series {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(exposition))
	if err != nil {
		t.Fatalf("not an exposition: %v\n%s", err, exposition)
	}
	all := series{}
	for name, family := range families {
		for _, m := range family.GetMetric() {
			metric := model.Metric{model.MetricNameLabel: model.LabelValue(name)}
			for _, l := range m.GetLabel() {
				metric[model.LabelName(l.GetName())] = model.LabelValue(l.GetValue())
			}
			all[strings.ReplaceAll(metric.String(), ", ", ",")] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return all
}

// scrape returns the exporter's current metrics.
func scrape(t *testing.T, p *servertest.Process) series {
	t.Helper()
	a := get(t, p, "/metrics")
	if a.status != http.StatusOK {
		t.Fatalf("scrape: status %d: %s", a.status, a.body)
	}
	return parse(t, a.body)
}

// machines returns the number of machines over all builds and architectures.
func (s series) machines() float64 {
	total := 0.0
	for name, value := range s {
		if strings.HasPrefix(name, "mde_machines{") {
			total += value
		}
	}
	return total
}

// check fails the test if a series is missing or has another value.
func (s series) check(t *testing.T, want series) {
	t.Helper()
	for name, value := range want {
		if got, ok := s[name]; !ok || got != value {
			t.Errorf("%s is %v, exposed %t; want %v", name, got, ok, value)
		}
	}
}
