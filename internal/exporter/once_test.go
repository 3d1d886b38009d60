package exporter

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mde-exporter/mde_exporter/config"
)

// roundTrip is an http.RoundTripper made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestOnceEndsEarlyWhenSignInHostThrottles throttles every token request. --once
// must report that within minutes, not after the refresh interval of an hour.
func TestOnceEndsEarlyWhenSignInHostThrottles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttling := roundTrip(func(r *http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"45"}},
				Body: io.NopCloser(strings.NewReader("")), Request: r,
			}, nil
		})
		var domains []string
		for i := range 100 {
			domains = append(domains, fmt.Sprintf("d%d.example", i))
		}
		file := filepath.Join(t.TempDir(), "mde.yml")
		text := `global: {security_states: {refresh_interval: 1h}}
tenants:
- name: contoso
  azuread: {oauth: {tenant_id: 11111111-1111-1111-1111-111111111111, client_id: 22222222-2222-2222-2222-222222222222, client_secret: hush}}
  watched_domains: {domains: [` + strings.Join(domains, ", ") + `]}
`
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		e := New(Options{
			Load:      func() (*config.Config, error) { return config.Load(file, config.Overrides{}) },
			Registry:  prometheus.NewRegistry(),
			Logger:    slog.New(slog.DiscardHandler),
			transport: func(string) http.RoundTripper { return throttling },
		})
		defer e.Close()
		start := time.Now()
		err := e.Once(t.Context())
		if took := time.Since(start); took > 5*time.Minute {
			t.Errorf("it took %s", took)
		}
		for _, want := range []string{"contoso: security_states: ", "contoso: watched_domains: ", "HTTP 429", "the sign-in host asked to wait"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error is %v, want %q", err, want)
			}
		}
	})
}
