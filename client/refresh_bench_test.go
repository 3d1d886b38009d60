//go:build unix

package client

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkRefresh reads a fleet over TLS, HTTP/2 and gzip from a far end in a
// process of its own, and reports the processor time of this process for each
// machine: with this package, with a plain loop over encoding/json, and by reading
// the same answers to nowhere.
func BenchmarkRefresh(b *testing.B) {
	far := startBenchmarkFarEnd(b)
	c, err := New(Options{
		LoginURL: far.url, GraphURL: far.url, APIURL: far.url, GraphScope: "graph", APIScope: "api",
		Credential: ClientSecret{TenantID: "tenant", ClientID: "app", Secret: "s"},
		Transport:  far.transport,
		Quota:      Limits{CallsPerMinute: 1e9, CallsPerHour: 1e9},
	})
	if err != nil {
		b.Fatal(err)
	}
	for _, way := range []struct {
		name    string
		refresh func() (machines int, err error)
	}{
		{"client", func() (int, error) { return countStates(c) }},
		{"encoding_json", far.plainRefresh},
		{"to_nowhere", far.readToNowhere},
	} {
		b.Run(way.name, func(b *testing.B) {
			machines := 0
			before := processorTime(b)
			for b.Loop() {
				n, err := way.refresh()
				if err != nil {
					b.Fatal(err)
				}
				machines += n
			}
			b.ReportMetric(float64(processorTime(b)-before)/float64(machines), "cpu-ns/machine")
		})
	}
}

func countStates(c *Client) (int, error) {
	builds, properties := map[string]*int{}, map[string]*int{}
	machines := 0
	for s, err := range c.SecurityStates(context.Background()) {
		if err != nil {
			return 0, err
		}
		machines++
		count(builds, s.Build)
		for _, p := range s.Properties {
			count(properties, p)
		}
	}
	return machines, nil
}

func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// benchmarkFarEnd is a far end in a process of its own.
type benchmarkFarEnd struct {
	url       *url.URL
	transport *http.Transport
}

const benchmarkPages = 25

// environment that makes the test binary serve.
const serveBenchmark = "MDE_EXPORTER_SERVE_BENCHMARK"

func startBenchmarkFarEnd(b *testing.B) *benchmarkFarEnd {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), self, "-test.run=^TestServeTheBenchmark$")
	cmd.Env = append(os.Environ(), serveBenchmark+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	var started struct {
		URL         string
		Certificate []byte
	}
	if err := json.NewDecoder(stdout).Decode(&started); err != nil {
		b.Fatal(err)
	}
	u, err := url.Parse(started.URL)
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(started.Certificate) {
		b.Fatal("no certificate")
	}
	return &benchmarkFarEnd{u, &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
	}}
}

// TestServeTheBenchmark is the far end of BenchmarkRefresh, and nothing where it
// was not started by it.
func TestServeTheBenchmark(t *testing.T) {
	if os.Getenv(serveBenchmark) == "" {
		t.Skip("this is a part of BenchmarkRefresh")
	}
	random := rand.New(rand.NewPCG(1, 2))
	pages := make([][]byte, benchmarkPages)
	for i := range pages {
		link := ""
		if i+1 < benchmarkPages {
			link = "/testwdatppreview/machinesecuritystates?$skiptoken=" + strconv.Itoa(i+1)
		}
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, _ = w.Write(statesPage(random, link))
		_ = w.Close()
		pages[i] = packed.Bytes()
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/token") {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"access_token":"t","token_type":"Bearer","expires_in":3600}`)
			return
		}
		page, _ := strconv.Atoi(r.URL.Query().Get("$skiptoken"))
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(pages[page])
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"URL": server.URL, "Certificate": certificate}); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // Until the benchmark ends.
}

// each reads the pages one after another, as a plain program would.
func (far *benchmarkFarEnd) each(read func(io.Reader) error) error {
	httpClient := &http.Client{Transport: far.transport}
	for page := range benchmarkPages {
		u := far.url.JoinPath("testwdatppreview", "machinesecuritystates")
		u.RawQuery = fmt.Sprintf("$skiptoken=%d", page)
		resp, err := httpClient.Get(u.String())
		if err != nil {
			return err
		}
		err = read(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (far *benchmarkFarEnd) readToNowhere() (int, error) {
	return benchmarkPages * benchmarkRows, far.each(func(body io.Reader) error {
		_, err := io.Copy(io.Discard, body)
		return err
	})
}

func (far *benchmarkFarEnd) plainRefresh() (int, error) {
	builds, properties := map[int]int{}, map[string]int{}
	return benchmarkPages * benchmarkRows, far.each(func(body io.Reader) error {
		var page plainStates
		if err := json.NewDecoder(body).Decode(&page); err != nil {
			return err
		}
		page.count(builds, properties)
		return nil
	})
}
