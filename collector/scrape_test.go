package collector

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

// manySeries is a result of about so many series.
func manySeries(n int) *statesResult {
	r := &statesResult{At: time.Now(), Source: SourcePreview}
	for i := range 98 {
		r.Properties = append(r.Properties, fmt.Sprintf("Property%02d", i))
	}
	for i := range n / 100 {
		g := stateGroup{Build: fmt.Sprintf("%05d", i), Architecture: "Amd64", Machines: 1000 + i, Requiring: i, Attention: make([]int, len(r.Properties))}
		for p := range g.Attention {
			g.Attention[p] = i * p
		}
		r.Groups = append(r.Groups, g)
	}
	return r
}

// BenchmarkScrape compares the whole way of a scrape with the handler's own cost:
// the same families, gathered once and served as they are.
func BenchmarkScrape(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		w := newWorld()
		counts, err := manySeries(n).counts("contoso", time.Now().Add(time.Hour))
		if err != nil {
			b.Fatal(err)
		}
		w.exposition.Publish("contoso", statesName, []*Block{counts})
		combined := Combine(w.registry, w.exposition)
		families, err := combined.Gather()
		if err != nil {
			b.Fatal(err)
		}
		asTheyAre := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return families, nil })
		for _, tc := range []struct {
			name string
			g    prometheus.Gatherer
		}{{"exposition", combined}, {"families as they are", asTheyAre}} {
			b.Run(fmt.Sprint(n, " series/", tc.name), func(b *testing.B) {
				handler := promhttp.HandlerFor(tc.g, promhttp.HandlerOpts{DisableCompression: true})
				request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
				b.ReportAllocs()
				for b.Loop() {
					handler.ServeHTTP(&discard{header: http.Header{}}, request)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/series")
			})
		}
	}
}

// BenchmarkRefreshedScrape is a scrape right after something was published.
func BenchmarkRefreshedScrape(b *testing.B) {
	w := newWorld()
	counts, err := manySeries(10_000).counts("contoso", time.Now().Add(time.Hour))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		w.exposition.Publish("contoso", statesName, []*Block{counts})
		if _, err := w.exposition.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}

type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}
