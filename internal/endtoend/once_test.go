package endtoend

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mde-exporter/mde_exporter/internal/servertest"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

func TestOnceWithTenantOfEnvironment(t *testing.T) {
	t.Parallel()
	sim := newSimulatedTenant(t, simulation.Options{Machines: 300, Domains: map[string]simulation.Domain{"evil.example": {Machines: 12}}})
	result := servertest.Run(t, []string{
		"AZURE_TENANT_ID=" + sim.TenantID(), "AZURE_CLIENT_ID=" + sim.ClientID(), "AZURE_CLIENT_SECRET=" + sim.ClientSecret(),
		"AZURE_AUTHORITY_HOST=" + sim.LoginURL,
	}, "--once", "--watched-domain=Evil.Example.", "--graph-url="+sim.GraphURL, "--api-url="+sim.APIURL)
	if result.Code != 0 {
		t.Errorf("exit code %d, want 0", result.Code)
	}
	got := parse(t, result.Stdout)
	tenant := sim.TenantID()
	got.check(t, series{
		`mde_watched_domain_machines{domain="evil.example",tenant="` + tenant + `"}`:       12,
		`mde_refresh_success{collector="security_states",tenant="` + tenant + `"}`:         1,
		`mde_refresh_success{collector="watched_domains",tenant="` + tenant + `"}`:         1,
		`mde_refreshes_total{collector="security_states",tenant="` + tenant + `"}`:         1,
		`mde_api_requests_total{api="domain_machines",code="200",tenant="` + tenant + `"}`: 1,
	})
	if n, want := got.machines(), sim.Now().Tally().Total; n != float64(want) {
		t.Errorf("%v machines, want %d", n, want)
	}
	if !strings.Contains(result.Stderr, "First refresh succeeded") {
		t.Errorf("the log lacks the refreshes:\n%s", result.Stderr)
	}
	if strings.Contains(result.Stdout+result.Stderr, sim.ClientSecret()) {
		t.Error("the secret is printed")
	}
}

func TestOnceWithFailurePrintsOtherMetricsAndExits1(t *testing.T) {
	t.Parallel()
	sim := newSimulatedTenant(t, simulation.Options{Machines: 300, Domains: map[string]simulation.Domain{"evil.example": {Machines: 12}}})
	sim.Fail(simulation.MachineSecurityStates, simulation.Fault{Body: `{"value": [{"id": `})
	result := servertest.Run(t, nil, "--once", "--config.file="+configuration(t,
		sim.section("contoso", "  watched_domains: {domains: [evil.example]}")))
	if result.Code != 1 {
		t.Errorf("exit code %d, want 1", result.Code)
	}
	got := parse(t, result.Stdout)
	got.check(t, series{
		`mde_watched_domain_machines{domain="evil.example",tenant="contoso"}`:                      12,
		`mde_refresh_success{collector="security_states",tenant="contoso"}`:                        0,
		`mde_refresh_success{collector="watched_domains",tenant="contoso"}`:                        1,
		`mde_refresh_failures_total{collector="security_states",reason="decode",tenant="contoso"}`: 1,
	})
	if n := got.machines(); n != 0 {
		t.Errorf("%v machines of an invalid page are exposed", n)
	}
	if !strings.Contains(result.Stderr, "mde_exporter: tenant contoso: security_states: ") {
		t.Errorf("the last line does not name the failure:\n%s", result.Stderr)
	}
}

func TestPromtoolAcceptsDemoMetrics(t *testing.T) {
	t.Parallel()
	promtool := servertest.Find(t, "promtool")
	for _, source := range []string{"machines", "machinesecuritystates"} {
		t.Run("from "+source, func(t *testing.T) {
			t.Parallel()
			result := servertest.Run(t, nil, "--demo", "--demo.source="+source, "--once")
			if result.Code != 0 {
				t.Fatalf("exit code %d, want 0:\n%s", result.Code, result.Stderr)
			}
			got := parse(t, result.Stdout)
			if want := `mde_security_states_source_info{source="` + source + `",tenant="demo"}`; got[want] != 1 {
				t.Errorf("no %s among %d series", want, len(got))
			}
			check := exec.CommandContext(t.Context(), promtool, "check", "metrics")
			check.Stdin = strings.NewReader(result.Stdout)
			if output, err := check.CombinedOutput(); err != nil || len(output) > 0 {
				t.Errorf("promtool check metrics: %v\n%s", err, output)
			}
		})
	}
}

func TestVersionWithoutLinkerFlags(t *testing.T) {
	t.Parallel()
	released, err := os.ReadFile("../../VERSION")
	if err != nil {
		t.Fatal(err)
	}
	version := strings.TrimSpace(string(released))
	printed := servertest.Run(t, nil, "--version")
	if want := "mde_exporter, version " + version + " ("; printed.Code != 0 || !strings.HasPrefix(printed.Stdout, want) {
		t.Errorf("--version printed %q, want it to begin with %q", printed.Stdout, want)
	}
	exposed := servertest.Run(t, nil, "--demo", "--once")
	if info := regexp.MustCompile(`mde_exporter_build_info{.*}`).FindString(exposed.Stdout); !strings.Contains(info, `version="`+version+`"`) {
		t.Errorf("the metrics have %q, want version %q", info, version)
	}

	if dir, err := os.Stat("../../.git"); err != nil || !dir.IsDir() {
		t.Skip("Go stamps the commit only in a clone: not outside of git, not in a linked worktree")
	}
	program := filepath.Join(t.TempDir(), "mde_exporter")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=true", "-o", program, "../..").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), program, "--version").Output()
	if err != nil || !regexp.MustCompile(`^mde_exporter, version `+regexp.QuoteMeta(version)+` \(branch: , revision: [0-9a-f]{40}(-modified)?\)`).Match(out) {
		t.Errorf("--version printed %q, %v; want version %s and the commit", out, err, version)
	}
}

func TestConfigCheckReportsFileAndLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	list := write(t, filepath.Join(dir, "list.txt"), "good.example\nhttps://bad.example/path\n# a comment\n10.0.0.1\n")
	file := write(t, filepath.Join(dir, "mde.yml"), `global:
  watched_domains:
    files: [list.txt]
    refresh_interval: 0s
tenants:
- name: contoso
  azuread:
    oauth: {tenant_id: contoso.example, client_id: 22222222-2222-4222-8222-222222222222, client_secret: not-to-be-shown}
    managed_identity: {}
  endpoints: {api_url: http://api.example}
  colour: blue
`)
	result := servertest.Run(t, nil, "--config.check", "--config.file="+file)
	if result.Code != 1 || result.Stdout != "" {
		t.Errorf("exit code %d and %q on standard output, want 1 and nothing", result.Code, result.Stdout)
	}
	lines := strings.Split(strings.TrimSuffix(result.Stderr, "\n"), "\n")
	for _, begin := range []string{
		file + ":4: global.watched_domains.refresh_interval: ",
		file + ":7: tenants[0].azuread: ",
		file + ":10: tenants[0].endpoints.api_url: ",
		file + ":11: tenants[0]: unknown key; ",
		list + ":2: ",
		list + ":4: ",
	} {
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, begin) }) {
			t.Errorf("no line begins with %q", begin)
		}
	}
	if len(lines) != 6 || strings.Contains(result.Stderr, "not-to-be-shown") {
		t.Errorf("%d lines for 6 mistakes:\n%s", len(lines), result.Stderr)
	}

	write(t, list, "good.example\n")
	write(t, file, "tenants:\n- azuread: {managed_identity: {client_id: 22222222-2222-4222-8222-222222222222}}\n  name: contoso\n  watched_domains: {files: [list.txt]}\n")
	if result := servertest.Run(t, nil, "--config.check", "--config.file="+file); result.Code != 0 || result.Stdout != file+" is valid\n" || result.Stderr != "" {
		t.Errorf("a valid file: %+v", result)
	}
}

func TestExitCodesAndErrorMessages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10})
	valid := configuration(t, sim.section("contoso", ""))
	webConfig := write(t, filepath.Join(dir, "web.yml"), "tls_server_config: {cert_file: absent.pem, key_file: absent.key}\n")
	taken := strings.TrimPrefix(sim.LoginURL, "http://")

	type testCase struct {
		args           []string
		environment    []string
		code           int
		stdout, stderr string // Substrings of the output. No output is allowed if the substring is empty and the code is 0.
	}
	cases := map[string]testCase{
		"--version":                  {args: []string{"--version"}, stdout: "mde_exporter, version"},
		"--help":                     {args: []string{"--help"}, stdout: "--config.file=PATH"},
		"unknown flag":               {args: []string{"--colour=blue"}, code: 1, stderr: "unknown long flag '--colour'"},
		"invalid number":             {args: []string{"--shard=first"}, code: 1, stderr: "--shard: "},
		"invalid log level":          {args: []string{"--log.level=loud"}, code: 1, stderr: "--log.level: "},
		"unexpected argument":        {args: []string{"start"}, code: 1, stderr: "unexpected start"},
		"no tenant":                  {code: 1, stderr: "set AZURE_TENANT_ID, AZURE_CLIENT_ID and one of AZURE_CLIENT_SECRET"},
		"incomplete environment":     {environment: []string{"AZURE_TENANT_ID=contoso.example"}, code: 1, stderr: "AZURE_CLIENT_ID"},
		"missing file":               {args: []string{"--config.file=" + dir + "/absent.yml"}, code: 1, stderr: dir + "/absent.yml: "},
		"empty file":                 {args: []string{"--config.file=" + write(t, dir+"/empty.yml", "")}, code: 1, stderr: dir + "/empty.yml"},
		"invalid watched domain":     {args: []string{"--demo", "--watched-domain=https://evil.example/"}, code: 1, stderr: "--watched-domain"},
		"endpoint flags with a file": {args: []string{"--config.file=" + valid, "--api-url=https://api.example"}, code: 1, stderr: "--api-url"},
		"used telemetry path":        {args: []string{"--demo", "--web.telemetry-path=/config"}, code: 1, stderr: "--web.telemetry-path: "},
		"invalid shard":              {args: []string{"--demo", "--shard=2", "--total-shards=2"}, code: 1, stderr: "--shard: "},
		"used address":               {args: []string{"--config.file=" + valid, "--web.listen-address=" + taken}, code: 1, stderr: "--web.listen-address: listen tcp " + taken + ": bind: address already in use"},
		"missing web configuration": {
			args: []string{"--config.file=" + valid, "--web.listen-address=127.0.0.1:0", "--web.config.file=" + dir + "/absent.yml"},
			code: 1, stderr: "--web.config.file: open " + dir + "/absent.yml",
		},
		"missing certificate": {
			args: []string{"--config.file=" + valid, "--web.listen-address=127.0.0.1:0", "--web.config.file=" + webConfig},
			code: 1, stderr: "--web.config.file: ",
		},
	}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		c := cases[name]
		t.Run(name, func(t *testing.T) {
			result := servertest.Run(t, c.environment, c.args...)
			if result.Code != c.code || !strings.Contains(result.Stdout, c.stdout) || !strings.Contains(result.Stderr, c.stderr) ||
				c.code == 0 && result.Stderr != "" || c.code != 0 && result.Stdout != "" {
				t.Errorf("exit code %d, want %d with %q on standard output and %q on standard error; printed:\n%s\n---\n%s",
					result.Code, c.code, c.stdout, c.stderr, result.Stdout, result.Stderr)
			}
		})
	}
}
