package exporter

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/mde-exporter/mde_exporter/config"
	"github.com/mde-exporter/mde_exporter/internal/servertest"
)

// hangingTransport never returns a response.
type hangingTransport struct{}

func (hangingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

const longListsFile = "MDE_TEST_LONG_LISTS"

// TestLongSharedWatchListsStartWithinLimits starts 50 tenants that watch the same
// 10,000 domains from shared files, in a separate process. It measures that
// process before the first API response.
func TestLongSharedWatchListsStartWithinLimits(t *testing.T) {
	if path := os.Getenv(longListsFile); path != "" {
		startLongLists(t, path)
		return
	}
	servertest.Slow(t)
	dir := t.TempDir()
	for i := range 4 {
		var list strings.Builder
		for j := range 2500 {
			fmt.Fprintf(&list, "host%d.list%d.example\n", j, i)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.txt", i)), []byte(list.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := "global:\n  watched_domains: {files: ['[0-2].txt'], lists: [{name: c2, refresh_interval: 15m, files: [3.txt]}]}\ntenants:\n"
	for i := range 50 {
		file += fmt.Sprintf("- name: t%02d\n  azuread: {oauth: {tenant_id: 4d7e0f1c-6f3b-4b0e-9d55-0c5d1c5f2a%02d, client_id: 0b9c2a54-52a1-4c2b-8e5f-6d1f3f0e7b21, client_secret: secret}}\n", i, i)
	}
	path := filepath.Join(dir, "mde.yml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	// The limits apply to a binary without the race detector.
	tests := filepath.Join(dir, "exporter.test")
	if output, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", tests, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, output)
	}
	command := exec.CommandContext(t.Context(), tests, "-test.run=^"+t.Name()+"$", "-test.v")
	command.Env = append(os.Environ(), longListsFile+"="+path)
	output, err := command.CombinedOutput()
	if err != nil {
		t.Errorf("%v:\n%s", err, output)
	}
	for line := range strings.Lines(string(output)) {
		if strings.Contains(line, "_linux_test.go:") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

func startLongLists(t *testing.T, path string) {
	const maxSeconds, maxMiB, maxFollowing = 2, 300, 100 * time.Millisecond
	begin, begun := time.Now(), processorTime(t)
	if _, err := config.Check(path, config.Overrides{}); err != nil {
		t.Fatal(err)
	}
	e := New(Options{
		Load:      func() (*config.Config, error) { return config.Load(path, config.Overrides{}) },
		Registry:  prometheus.NewRegistry(),
		Logger:    slog.New(slog.DiscardHandler),
		transport: func(string) http.RoundTripper { return hangingTransport{} },
	})
	defer e.Close()
	if err := e.Reload(); err != nil {
		t.Fatal(err)
	}
	watched := &testExporter{t: t, Exporter: e}
	for len(watched.sums("mde_watched_domains")) < 50 {
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("started after %s, %s of processor time, %d MiB", time.Since(begin).Round(time.Millisecond), processorTime(t)-begun, peakMiB(t))
	if used := processorTime(t) - begun; used > maxSeconds*time.Second {
		t.Errorf("the start took %s of processor time", used)
	}
	for name, n := range watched.sums("mde_watched_domain_info") {
		if n != 10_000 {
			t.Errorf("%s: %v domains are on a list", name, n)
		}
	}
	families, err := e.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(io.Discard, f); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("after a scrape %d MiB", peakMiB(t))
	if peak := peakMiB(t); peak > maxMiB {
		t.Errorf("the peak is %d MiB, want at most %d", peak, maxMiB)
	}
	time.Sleep(6 * time.Second) // Wait until every tenant has made its first calls.
	before := processorTime(t)
	time.Sleep(10 * time.Second)
	following := processorTime(t) - before
	t.Logf("following the files for 10 s took %s of processor time", following)
	if following > maxFollowing {
		t.Errorf("following the files for 10 s took %s of processor time", following)
	}
}

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		t.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// peakMiB returns the largest resident set size of this process.
func peakMiB(t *testing.T) (peak int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	if _, scanned := fmt.Sscan(rest, &peak); errors.Join(err, scanned) != nil {
		t.Fatal(errors.Join(err, scanned))
	}
	return peak >> 10
}
