// Package endtoend tests the program as operators run it: built, started as a
// process of its own with flags, a file or an environment, and spoken to over
// HTTP. The far end is the simulated tenant, served by the test.
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

// farEnd is a simulated tenant that is served for the length of a test.
type farEnd struct {
	*simulation.Tenant
	*simulation.Server
}

// newFarEnd serves a tenant, each of its roles at a host of its own.
func newFarEnd(t *testing.T, o simulation.Options) *farEnd {
	t.Helper()
	tenant := simulation.New(o)
	server, err := tenant.Listen(simulation.ListenOptions{Separate: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return &farEnd{tenant, server}
}

// section is the tenant of the configuration file that this far end serves.
func (f *farEnd) section(name, settings string) string {
	return fmt.Sprintf(`
- name: %s
  azuread:
    oauth: {tenant_id: %s, client_id: %s, client_secret: %s}
  endpoints: {login_url: %s, graph_url: %s, api_url: %s}
%s`, name, f.TenantID(), f.ClientID(), f.ClientSecret(), f.LoginURL, f.GraphURL, f.APIURL, settings)
}

// write makes a file of the test and returns its path.
func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// configuration writes a file with these tenants and returns its path.
func configuration(t *testing.T, sections ...string) string {
	t.Helper()
	return write(t, filepath.Join(t.TempDir(), "mde.yml"), "tenants:"+strings.Join(sections, ""))
}

// answer is what the exporter answered to one request.
type answer struct {
	status int
	header http.Header
	body   string
}

// impatience is how long an answer may take that waits for nothing. It is far
// longer than any takes, and far shorter than a far end that hangs.
const impatience = 10 * time.Second

// ask sends a request. A client of nil is the ordinary one.
func ask(ctx context.Context, client *http.Client, method, url string, header http.Header) (*answer, error) {
	if client == nil {
		client = http.DefaultClient
	}
	ctx, cancel := context.WithTimeout(ctx, impatience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	if header != nil {
		request.Header = header
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return &answer{response.StatusCode, response.Header, string(body)}, err
}

// get asks the exporter for a path.
func get(t *testing.T, p *servertest.Process, path string) *answer {
	t.Helper()
	a, err := ask(t.Context(), nil, http.MethodGet, p.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// series are the gauges and counters of an exposition by name and labels, the
// labels in the order of the alphabet, as in up{instance="a",job="b"}.
type series map[string]float64

// parse reads an exposition in Prometheus's text format.
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

// scrape reads what the exporter exposes now.
func scrape(t *testing.T, p *servertest.Process) series {
	t.Helper()
	a := get(t, p, "/metrics")
	if a.status != http.StatusOK {
		t.Fatalf("a scrape is answered with %d: %s", a.status, a.body)
	}
	return parse(t, a.body)
}

// machines is how many there are, over all builds and architectures.
func (s series) machines() float64 {
	total := 0.0
	for name, value := range s {
		if strings.HasPrefix(name, "mde_machines{") {
			total += value
		}
	}
	return total
}

// has fails the test where a series is missing or has another value.
func (s series) has(t *testing.T, want series) {
	t.Helper()
	for name, value := range want {
		if got, ok := s[name]; !ok || got != value {
			t.Errorf("%s is %v, there %t; want %v", name, got, ok, value)
		}
	}
}
