package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/servertest"
)

// TestPageInBrowser opens the page in Chromium with test/browser. Its packages
// are installed by tools/install browser.
func TestPageInBrowser(t *testing.T) {
	browser, node := servertest.Find(t, "chromium", "google-chrome"), servertest.Find(t, "node")
	const dir = "../../test/browser"
	if _, err := os.Stat(dir + "/node_modules/axe-core"); err != nil {
		t.Fatal("run tools/install browser: ", err)
	}
	const maxHeight = 6000 // Pixels.
	now := time.Now()
	many, few := failingTenants(now), Status{Version: "1.2.3", Tenants: tenants(3, now)}
	long := healthyTenant("with-10000-domains", now)
	var domains []Domain
	for i := range 10000 {
		domains = append(domains, Domain{Name: fmt.Sprintf("a-rather-long-name-%05d.of-a-domain.example", i), Machines: i % 3, LastSuccess: now.Add(-time.Hour)})
	}
	long.setDomains(domains...)
	many.Tenants = append(many.Tenants, long)
	many.Tenants[3].Collectors[0].Page.Notes = []string{"Prevalence is left out: role URL.Read.All is missing."}

	var targets []string
	for _, served := range []struct {
		status  Status
		targets []string
	}{
		{many, []string{"/", "/?q=evil", "/?tenant=with-10000-domains&q=0999"}},
		{few, []string{"/"}},
		{Status{Config: ConfigStatus{Error: "mde.yml:3: unknown key"}}, []string{"/"}},
	} {
		o := testOptions()
		o.Pprof = true
		o.Status = func() Status { return served.status }
		server := httptest.NewServer(newTestHandler(t, o))
		defer server.Close()
		for _, target := range served.targets {
			targets = append(targets, server.URL+target)
		}
	}
	args := append([]string{"check.mjs", "--browser=" + browser}, targets...)
	if screenshots := os.Getenv("MDE_TEST_SCREENSHOTS"); screenshots != "" {
		args = append(args, "--screenshots="+screenshots)
	}
	command := exec.CommandContext(t.Context(), node, args...)
	command.Dir = dir
	var stderr strings.Builder
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	backgrounds := map[string]string{}
	lines := 0
	for decoder := json.NewDecoder(bytes.NewReader(output)); decoder.More(); lines++ {
		var got struct {
			URL, ColorScheme, Background string
			Width, Height                int
			Problems                     []string
		}
		if err := decoder.Decode(&got); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%s at %d, %s", got.URL, got.Width, got.ColorScheme)
		for _, problem := range got.Problems {
			t.Errorf("%s: %s", name, problem)
		}
		if strings.HasSuffix(got.URL, "/") && got.Width == 1280 && got.Height > maxHeight {
			t.Errorf("%s is %d pixels tall, want at most %d", name, got.Height, maxHeight)
		}
		t.Log(name, got.Height)
		backgrounds[got.ColorScheme] = got.Background
	}
	if lines != 4*len(targets) {
		t.Errorf("%d results, want %d", lines, 4*len(targets))
	}
	if backgrounds["light"] == backgrounds["dark"] {
		t.Errorf("the background is %s in both color schemes", backgrounds["dark"])
	}
}
