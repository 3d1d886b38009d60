package endtoend

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mde-exporter/mde_exporter/internal/servertest"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// wrong is an invalid secret. It must not be shown anywhere.
const wrong = "wrong-secret+with/characters=that&are%escaped"

func TestWrongSecretIsLoggedOncePerRefreshAndNeverShown(t *testing.T) {
	t.Parallel()
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10})
	file := configuration(t, strings.Replace(sim.section("contoso", `
  security_states: {refresh_interval: 1s}
  watched_domains: {refresh_interval: 1s, domains: [evil.example]}
`), sim.ClientSecret(), wrong, 1))
	exporter := servertest.Exporter(t, "--config.file="+file, "--web.enable-lifecycle")

	const refreshes = 4
	exporter.Await(t, "each collector has been rejected several times", func() error {
		got := scrape(t, exporter)
		for _, collector := range []string{"security_states", "watched_domains"} {
			name := fmt.Sprintf(`mde_refresh_failures_total{collector=%q,reason="auth",tenant="contoso"}`, collector)
			if got[name] < refreshes {
				return fmt.Errorf("%s is %v", name, got[name])
			}
		}
		return nil
	})
	if a := get(t, exporter, "/-/ready"); a.status != http.StatusOK {
		t.Errorf("after a failed refresh of every collector /-/ready: status %d: %s", a.status, a.body)
	}
	// Two audiences need one request each, and perhaps another one.
	if n := sim.Count(simulation.Token); n < 1 || n > 4 {
		t.Errorf("%d token requests for %d refreshes", n, 2*refreshes)
	}
	if n := sim.Count(simulation.Every) - sim.Count(simulation.Token); n != 0 {
		t.Errorf("%d calls were made without a token", n)
	}
	page := get(t, exporter, "/").body
	if !strings.Contains(page, "AADSTS7000215") || !strings.Contains(page, "the client secret is wrong") {
		t.Errorf("the status page does not show the cause and the fix:\n%s", page)
	}
	config := get(t, exporter, "/config").body
	if !strings.Contains(config, "client_secret: <secret>") {
		t.Errorf("/config does not mask the secret:\n%s", config)
	}
	reload, err := send(t.Context(), nil, http.MethodPost, exporter.URL()+"/-/reload", nil)
	if err != nil || reload.status != http.StatusOK {
		t.Errorf("POST /-/reload: %v, %v", reload, err)
	}
	metrics := get(t, exporter, "/metrics").body
	exporter.Stop() // The process has ended, so counters and log are complete.
	log := exporter.Output()

	got := parse(t, metrics)
	for _, collector := range []string{"security_states", "watched_domains"} {
		failures := got[fmt.Sprintf(`mde_refresh_failures_total{collector=%q,reason="auth",tenant="contoso"}`, collector)]
		lines := 0
		for line := range strings.Lines(log) {
			if strings.Contains(line, "collector="+collector) && strings.Contains(line, "AADSTS7000215: Invalid client secret provided.") {
				lines++
			}
		}
		// One or two refreshes may have ended after the scrape.
		if float64(lines) < failures || float64(lines) > failures+3 {
			t.Errorf("the log has %d lines for %v failed refreshes of %s", lines, failures, collector)
		}
	}
	once := servertest.Run(t, nil, "--once", "--config.file="+file)
	diagnosis := servertest.Run(t, nil, "--diagnose", "--config.file="+file)
	if once.Code != 1 || diagnosis.Code != 1 {
		t.Errorf("exit codes %d and %d of --once and --diagnose, want 1", once.Code, diagnosis.Code)
	}
	for where, text := range map[string]string{
		"the log": log, "/metrics": metrics, "/": page, "/config": config, "--once": once.Stdout + once.Stderr,
		"--diagnose": diagnosis.Stdout + diagnosis.Stderr, "the response to a reload": reload.body,
	} {
		if strings.Contains(text, "wrong-secret") {
			t.Errorf("%s shows the secret:\n%s", where, text)
		}
	}
}
