package endtoend

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/mde-exporter/mde_exporter/internal/servertest"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

func TestHangingAPIBlocksNeitherScrapesNorShutdown(t *testing.T) {
	t.Parallel()
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10})
	sim.Fail(simulation.MachineSecurityStates, simulation.Fault{Hang: true})
	sim.Fail(simulation.DomainMachines, simulation.Fault{Hang: true})
	exporter := servertest.Exporter(t, "--config.file="+configuration(t,
		sim.section("contoso", "  watched_domains: {domains: [evil.example]}")))
	exporter.Await(t, "both collectors wait for the API", func() error {
		states, domains := sim.Count(simulation.MachineSecurityStates, 0), sim.Count(simulation.DomainMachines, 0)
		if states == 0 || domains == 0 {
			return fmt.Errorf("%d and %d calls hang", states, domains)
		}
		return nil
	})

	scrape(t, exporter).check(t, series{`mde_watched_domains{tenant="contoso"}`: 1})
	if a := get(t, exporter, "/-/ready"); a.status != http.StatusServiceUnavailable ||
		!strings.Contains(a.body, "security_states") || !strings.Contains(a.body, "watched_domains") {
		t.Errorf("/-/ready: status %d: %s; want 503 and the waiting collectors", a.status, a.body)
	}
	if a := get(t, exporter, "/-/healthy"); a.status != http.StatusOK {
		t.Errorf("/-/healthy: status %d: %s", a.status, a.body)
	}

	stopped := time.Now()
	exporter.Signal(t, syscall.SIGTERM)
	if code := exporter.ExitCode(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if took := time.Since(stopped); took > requestTimeout {
		t.Errorf("it took %v to stop", took)
	}
}

func TestRunningScrapeCompletesDuringShutdown(t *testing.T) {
	t.Parallel()
	// 5 MB of metrics are more than the buffers of a connection.
	const builds, properties = 400, 60
	sim := newSimulatedTenant(t, simulation.Options{Machines: 2 * builds})
	sim.Change(func(m *simulation.Machine) {
		m.Build, m.Architecture = 10_000+m.Index%builds, "Amd64"
		m.Extra = []string{fmt.Sprintf("Property%0100d", m.Index%properties)}
	})
	exporter := servertest.Exporter(t, "--config.file="+configuration(t,
		sim.section("contoso", "  watched_domains: {domains: [evil.example]}")))
	exporter.Await(t, "it is ready", func() error {
		if a := get(t, exporter, "/-/ready"); a.status != http.StatusOK {
			return errors.New(a.body)
		}
		return nil
	})
	sim.Fail(simulation.DomainMachines, simulation.Fault{Hang: true})

	identity := http.Header{"Accept-Encoding": {"identity"}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, exporter.URL()+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = identity
	response, err := http.DefaultClient.Do(request) // The body is not read yet.
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	// After another scrape, this one is blocked by its reader.
	if a, err := send(t.Context(), nil, http.MethodGet, exporter.URL()+"/metrics", identity); err != nil || a.status != http.StatusOK {
		t.Fatal(a, err)
	}
	exporter.Signal(t, syscall.SIGTERM)
	exporter.Await(t, "it is about to stop", func() error {
		if !strings.Contains(exporter.Output(), "Received signal, stopping") {
			return errors.New("not logged yet")
		}
		return nil
	})
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("after %d bytes: %v", len(body), err)
	}
	if n := strings.Count(string(body), "\nmde_machines_attention{"); n < builds*properties || !strings.HasSuffix(string(body), "\n") {
		t.Errorf("%d series in %d bytes, want %d or more", n, len(body), builds*properties)
	}
	if code := exporter.ExitCode(t); code != 0 || strings.Contains(exporter.Output(), "exiting anyway") {
		t.Errorf("exit code %d, want 0 and a graceful stop", code)
	}
}

func TestReadyAfterFirstRefreshOfEveryCollector(t *testing.T) {
	t.Parallel()
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10})
	sim.Fail(simulation.MachineSecurityStates, simulation.Fault{Hang: true, Times: 1})
	exporter := servertest.Exporter(t, "--config.file="+configuration(t,
		sim.section("contoso", "  request_timeout: 3s\n  watched_domains: {domains: [evil.example]}")))
	status := 0
	unready := false
	exporter.Await(t, "it becomes ready", func() error {
		a := get(t, exporter, "/-/ready")
		if status = a.status; status == http.StatusOK {
			return nil
		}
		unready = unready || status == http.StatusServiceUnavailable
		return errors.New(a.body)
	})
	if !unready {
		t.Error("it was ready before the first refresh ended")
	}
	if n := scrape(t, exporter).machines(); n != 10 {
		t.Errorf("it is ready with %v machines, want 10", n)
	}
}

func TestReloadAppliesChangesAndRejectsMistakes(t *testing.T) {
	t.Parallel()
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10, Domains: map[string]simulation.Domain{"evil.example": {Machines: 3}, "worse.example": {Machines: 4}}})
	watch := func(domains string) string {
		return "tenants:" + sim.section("contoso", "  watched_domains: {domains: ["+domains+"]}")
	}
	file := write(t, filepath.Join(t.TempDir(), "mde.yml"), watch("evil.example"))
	exporter := servertest.Exporter(t, "--config.file="+file, "--web.enable-lifecycle")
	shows := func(what string, want series) {
		t.Helper()
		exporter.Await(t, what, func() error {
			got := scrape(t, exporter)
			for name, value := range want {
				if v, ok := got[name]; ok != (value >= 0) || ok && v != value {
					return fmt.Errorf("%s is %v, exposed %t", name, v, ok)
				}
			}
			return nil
		})
	}
	const (
		absent = -1
		loaded = "mde_exporter_config_last_reload_successful"
		evil   = `mde_watched_domain_machines{domain="evil.example",tenant="contoso"}`
		worse  = `mde_watched_domain_machines{domain="worse.example",tenant="contoso"}`
		quiet  = `mde_watched_domain_machines{domain="quiet.example",tenant="contoso"}`
	)
	shows("the first list", series{loaded: 1, evil: 3, worse: absent})

	write(t, file, watch("evil.example, worse.example"))
	exporter.Signal(t, syscall.SIGHUP)
	shows("SIGHUP loaded the second list", series{loaded: 1, evil: 3, worse: 4})

	write(t, file, watch("worse.example, quiet.example"))
	post := func() *response {
		t.Helper()
		a, err := send(t.Context(), nil, http.MethodPost, exporter.URL()+"/-/reload", nil)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := post(); a.status != http.StatusOK {
		t.Errorf("POST /-/reload: status %d: %s", a.status, a.body)
	}
	shows("POST loaded the third list", series{loaded: 1, evil: absent, worse: 4, quiet: 0})

	write(t, file, watch("worse.example, 10.0.0.1"))
	if a := post(); a.status != http.StatusInternalServerError || !strings.Contains(a.body, file+":") {
		t.Errorf("POST /-/reload with a mistake: status %d: %s; want 500 and file and line", a.status, a.body)
	}
	shows("the mistake changed nothing", series{loaded: 0, worse: 4, quiet: 0})
	before := strings.Count(exporter.Output(), "Reloading configuration failed")
	exporter.Signal(t, syscall.SIGHUP)
	exporter.Await(t, "SIGHUP logs the mistake", func() error {
		if n := strings.Count(exporter.Output(), "Reloading configuration failed"); n <= before {
			return fmt.Errorf("logged %d times", n)
		}
		return nil
	})
	shows("the mistake changed nothing", series{loaded: 0, worse: 4, quiet: 0})
}

// wonderland is the bcrypt hash of the password "wonderland", with the lowest
// cost.
const wonderland = "$2a$04$snFvRaCsmFpTCOqRH5GtZeO.E8.ViVtVdKnogW4UElvDFwxiu1RRa"

func TestTLSAndBasicAuthProtectEveryPath(t *testing.T) {
	t.Parallel()
	// An httptest server has a certificate for 127.0.0.1, and a client that
	// trusts it.
	model := httptest.NewTLSServer(http.NotFoundHandler())
	defer model.Close()
	certificate := model.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "tls.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})))
	write(t, filepath.Join(dir, "tls.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	web := write(t, filepath.Join(dir, "web.yml"), fmt.Sprintf(
		"tls_server_config: {cert_file: tls.pem, key_file: tls.key}\nbasic_auth_users: {alice: %s}\n", wonderland))

	address := servertest.FreeAddress(t)
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10})
	exporter := servertest.Launch(t, address, servertest.Build(t),
		"--config.file="+configuration(t, sim.section("contoso", "")), "--web.listen-address="+address, "--web.config.file="+web)
	request := func(path, user, password string) (int, error) {
		header := http.Header{}
		if user != "" {
			r := &http.Request{Header: header}
			r.SetBasicAuth(user, password)
		}
		a, err := send(t.Context(), model.Client(), http.MethodGet, "https://"+address+path, header)
		if err != nil {
			return 0, err
		}
		return a.status, nil
	}
	exporter.Await(t, "it accepts Alice's password", func() error {
		status, err := request("/metrics", "alice", "wonderland")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
	if status, err := request("/metrics?tenant=contoso", "alice", "wonderland"); status != http.StatusOK {
		t.Errorf("the metrics of one tenant: status %d, %v", status, err)
	}
	for _, path := range []string{"/metrics", "/metrics?tenant=contoso", "/", "/?q=contoso", "/config", "/-/healthy", "/-/ready"} {
		for _, c := range []struct{ user, password string }{{"", ""}, {"alice", "looking-glass"}} {
			if status, err := request(path, c.user, c.password); status != http.StatusUnauthorized {
				t.Errorf("%s for user %q: status %d, %v; want 401", path, c.user, status, err)
			}
		}
	}
	if a, err := send(t.Context(), nil, http.MethodGet, "http://"+address+"/metrics", nil); err == nil && a.status != http.StatusBadRequest {
		t.Errorf("plain HTTP: status %d", a.status)
	}
}

func TestScrapeFormats(t *testing.T) {
	t.Parallel()
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10})
	exporter := servertest.Exporter(t, "--config.file="+configuration(t, sim.section("contoso", "")))
	exporter.Await(t, "the fleet is counted", func() error {
		if n := scrape(t, exporter).machines(); n != 10 {
			return fmt.Errorf("%v machines", n)
		}
		return nil
	})
	accept := func(formats string) *response {
		t.Helper()
		a, err := send(t.Context(), nil, http.MethodGet, exporter.URL()+"/metrics", http.Header{"Accept": {formats}})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}

	text := accept("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
	if kind := text.header.Get("Content-Type"); !strings.HasPrefix(kind, "application/openmetrics-text; version=1.0.0") {
		t.Errorf("OpenMetrics has the content type %s", kind)
	}
	if !strings.HasSuffix(text.body, "\n# EOF\n") || !strings.Contains(text.body, "# TYPE mde_refreshes counter\n") {
		t.Errorf("not OpenMetrics:\n%s", text.body)
	}

	binary := accept(string(expfmt.NewFormat(expfmt.TypeProtoDelim)))
	decoder := expfmt.NewDecoder(strings.NewReader(binary.body), expfmt.ResponseFormat(binary.header))
	native := false
	for {
		var family dto.MetricFamily
		if err := decoder.Decode(&family); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if family.GetName() != "mde_api_request_duration_seconds" {
			continue
		}
		for _, m := range family.GetMetric() {
			h := m.GetHistogram()
			native = native || h.Schema != nil && len(h.GetPositiveSpan()) > 0 && len(h.GetBucket()) > 0
		}
	}
	if !native {
		t.Error("no histogram is both classic and native")
	}
}
