// Package collectortest provides test helpers for collectors: an exposition, a
// client, golden files.
package collectortest

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// World is an exposition with everything that a collector needs.
type World struct {
	Registry   *prometheus.Registry
	metrics    *collector.Metrics
	Tenant     *collector.TenantMetrics
	Exposition *collector.Exposition
	Log        *syncBuffer
	Logger     *slog.Logger
	// Shared is Env.Shared: all collectors of the World have one client.
	Shared *collector.Shared
}

// NewWorld returns a World without published values.
func NewWorld() *World {
	w := &World{Registry: prometheus.NewRegistry(), Exposition: &collector.Exposition{}, Log: &syncBuffer{}, Shared: &collector.Shared{}}
	w.metrics = collector.NewMetrics(w.Registry)
	w.Tenant = w.metrics.Tenant("contoso")
	w.Logger = slog.New(slog.NewTextHandler(w.Log, nil))
	return w
}

// Env returns the environment of a collector of the tenant contoso.
func (w *World) Env(name string) collector.Env {
	return collector.Env{Tenant: "contoso", Name: name, Logger: w.Logger, Metrics: w.Tenant, Shared: w.Shared}
}

// TextList returns the texts in the API's format.
func TextList(texts ...string) client.TextList {
	list, err := json.Marshal(append([]string{}, texts...))
	if err != nil {
		panic(err)
	}
	return list
}

// Client returns a client whose Defender API is the handler. Token requests
// always succeed.
func Client(t testing.TB, api http.HandlerFunc) *client.Client {
	t.Helper()
	at := func(host string) *url.URL { return &url.URL{Scheme: "https", Host: host} }
	c, err := client.New(client.Options{
		LoginURL: at("login.example"), GraphURL: at("graph.example"), APIURL: at("api.example"), GraphScope: "graph", APIScope: "api",
		Credential: client.ClientSecret{TenantID: "tenant", ClientID: "app", Secret: "secret"},
		Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			response := httptest.NewRecorder()
			response.Header().Set("Content-Type", "application/json")
			if r.Method == http.MethodPost {
				_, _ = response.WriteString(`{"token_type":"Bearer","expires_in":3600,"access_token":"token"}`)
			} else {
				api(response, r)
			}
			return response.Result(), nil
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.JoinQuotas()
	return c
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// NameOf returns the name of a collector, which otherwise only its Env contains.
func NameOf(c collector.Collector) string {
	return map[string]string{"*states.Collector": "security_states", "*domains.Collector": "watched_domains"}[fmt.Sprintf("%T", c)]
}

// Refresher returns a refresher of the collector.
func (w *World) Refresher(c collector.Collector, interval time.Duration) *collector.Refresher {
	return collector.NewRefresher(collector.RefresherOptions{
		Env:       collector.Env{Tenant: "contoso", Name: NameOf(c), Logger: w.Logger},
		Schedule:  collector.Schedule{RefreshInterval: model.Duration(interval), Continuous: NameOf(c) == "watched_domains"},
		Collector: c, Exposition: w.Exposition,
	})
}

// Publisher returns the collector's publisher.
func (w *World) Publisher(c collector.Collector) *collector.Publisher {
	return w.Exposition.Publisher("contoso", NameOf(c))
}

// Refresh refreshes once and publishes the snapshot.
func (w *World) Refresh(ctx context.Context, c collector.Collector) error {
	outcome, err := c.Refresh(ctx)
	if err == nil && outcome.Snapshot != nil {
		w.Publisher(c).Publish(*outcome.Snapshot)
	}
	return err
}

// Exposed returns the collectors' values as text, without the metrics about
// refreshes.
func (w *World) Exposed(t testing.TB) string {
	t.Helper()
	return Text(t, prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := w.Exposition.Gather()
		return slices.DeleteFunc(slices.Clone(families), func(f *dto.MetricFamily) bool {
			return strings.HasPrefix(f.GetName(), "mde_refresh")
		}), err
	}))
}

// Scraped returns the text of a scrape.
func (w *World) Scraped(t testing.TB) string {
	t.Helper()
	return Text(t, collector.Combine(w.Registry, w.Exposition))
}

// Lint reports the problems that promtool finds in a scrape.
func (w *World) Lint(t testing.TB) {
	t.Helper()
	problems, err := testutil.GatherAndLint(collector.Combine(w.Registry, w.Exposition))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("lint: %s: %s", p.Metric, p.Text)
	}
}

// Text returns the gathered metrics as text.
func Text(t testing.TB, g prometheus.Gatherer) string {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// Value returns the value of a series in the text, or "" if it is absent. The
// series is written as in the text.
func Value(exposition, series string) string {
	for line := range strings.Lines(exposition) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// Golden compares got with a file in testdata. With -update it writes the file.
func Golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; accept it with -update):\n%s", path, diff)
	}
}

// Stored returns the JSON of a key, or "".
func Stored(s collector.Store, key string) string {
	var text json.RawMessage
	_, _ = s.Load(key, &text)
	return string(text)
}

// RunFor runs a refresher for a duration of fake time.
func RunFor(t testing.TB, r *collector.Refresher, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	time.Sleep(d)
	cancel()
	<-done
}

// RowsOf yields the rows and then the error, if it is not nil.
func RowsOf[T any](err error, rows ...T) func(yield func(*T, error) bool) {
	return func(yield func(*T, error) bool) {
		for i := range rows {
			row := rows[i]
			if !yield(&row, nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
