package collector

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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

// TestScrapersAtOnceGetWholeExpositions scrapes through the handler while one
// refresh after the other is published: each scrape shows one of them, whole.
func TestScrapersAtOnceGetWholeExpositions(t *testing.T) {
	const series = 1000
	for _, scrapers := range []int{1, 2, 16} {
		t.Run(fmt.Sprint(scrapers, " scrapers"), func(t *testing.T) {
			var refreshes [2][]*Block
			for i := range refreshes {
				r := manySeries(series)
				for g := range r.Groups {
					r.Groups[g].Machines = i
				}
				block, err := r.counts("contoso", time.Now().Add(time.Hour))
				if err != nil {
					t.Fatal(err)
				}
				refreshes[i] = []*Block{block}
			}
			w := newWorld()
			w.exposition.Publish("contoso", statesName, refreshes[0])
			handler := promhttp.HandlerFor(Combine(w.registry, w.exposition), promhttp.HandlerOpts{})
			var scraping, refreshing sync.WaitGroup
			stop := make(chan struct{})
			refreshing.Go(func() {
				for i := 1; ; i++ {
					select {
					case <-stop:
						return
					default:
						w.exposition.Publish("contoso", statesName, refreshes[i%2])
					}
				}
			})
			for range scrapers {
				scraping.Go(func() {
					for range 32 / scrapers {
						answer := httptest.NewRecorder()
						handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
						lines, values := 0, make(map[string]int)
						for line := range strings.Lines(answer.Body.String()) {
							if strings.HasPrefix(line, "mde_machines") {
								lines++
							}
							if strings.HasPrefix(line, "mde_machines{") {
								values[line[strings.LastIndexByte(line, ' '):]]++
							}
						}
						if answer.Code != http.StatusOK || lines != series || len(values) != 1 {
							t.Errorf("%d with %d series of %d, from refreshes %v", answer.Code, lines, series, values)
							return
						}
					}
				})
			}
			scraping.Wait()
			close(stop)
			refreshing.Wait()
		})
	}
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
