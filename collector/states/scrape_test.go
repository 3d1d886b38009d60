package states

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

// manySeries returns a result of about n series.
func manySeries(n int) *statesResult {
	r := &statesResult{At: time.Now(), Source: SourcePreview, Gauges: make(map[string][]stateGroup)}
	for i := range 98 {
		r.Properties = append(r.Properties, fmt.Sprintf("Property%02d", i))
	}
	for i := range n / 100 {
		attention := make([]int, len(r.Properties))
		for p := range attention {
			attention[p] = i * p
		}
		for gauge, counts := range map[string][]int{machinesGauge: {1000 + i}, requiringGauge: {i}, "mde_machines_attention": attention} {
			r.Gauges[gauge] = append(r.Gauges[gauge], stateGroup{Values: []string{fmt.Sprintf("%05d", i), "Amd64"}, Counts: counts})
		}
	}
	return r
}

// TestConcurrentScrapesSeeOneRefresh scrapes while refreshes are published. Each scrape
// must contain the values of a single refresh.
func TestConcurrentScrapesSeeOneRefresh(t *testing.T) {
	const series = 1000
	for _, scrapers := range []int{1, 2, 16} {
		t.Run(fmt.Sprint(scrapers, " scrapers"), func(t *testing.T) {
			var refreshes [2][]*collector.Block
			for i := range refreshes {
				r := manySeries(series)
				for _, g := range r.Gauges[machinesGauge] {
					g.Counts[0] = i
				}
				block, err := r.counts((&Config{}).groupings(), "contoso", time.Now().Add(time.Hour))
				if err != nil {
					t.Fatal(err)
				}
				refreshes[i] = []*collector.Block{block}
			}
			w := collectortest.NewWorld()
			w.Exposition.Publisher("contoso", "security_states").Publish(collector.Snapshot{Blocks: refreshes[0]})
			handler := promhttp.HandlerFor(collector.Combine(w.Registry, w.Exposition), promhttp.HandlerOpts{})
			var scraping, refreshing sync.WaitGroup
			stop := make(chan struct{})
			refreshing.Go(func() {
				for i := 1; ; i++ {
					select {
					case <-stop:
						return
					default:
						w.Exposition.Publisher("contoso", "security_states").Publish(collector.Snapshot{Blocks: refreshes[i%2]})
					}
				}
			})
			for range scrapers {
				scraping.Go(func() {
					for range 32 / scrapers {
						response := httptest.NewRecorder()
						handler.ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/metrics", nil))
						lines, values := 0, make(map[string]int)
						for line := range strings.Lines(response.Body.String()) {
							if strings.HasPrefix(line, "mde_machines") {
								lines++
							}
							if strings.HasPrefix(line, "mde_machines{") {
								values[line[strings.LastIndexByte(line, ' '):]]++
							}
						}
						if response.Code != http.StatusOK || lines != series || len(values) != 1 {
							t.Errorf("status %d, %d series, want %d; values of refreshes %v", response.Code, lines, series, values)
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

// BenchmarkScrape compares a scrape with the handler's own cost, which is that of
// serving families that were gathered once. Both run alternately. The benchmark reports
// the median of the ratios.
func BenchmarkScrape(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n, " series"), func(b *testing.B) {
			w := collectortest.NewWorld()
			counts, err := manySeries(n).counts((&Config{}).groupings(), "contoso", time.Now().Add(time.Hour))
			if err != nil {
				b.Fatal(err)
			}
			w.Exposition.Publisher("contoso", "security_states").Publish(collector.Snapshot{Blocks: []*collector.Block{counts}})
			combined := collector.Combine(w.Registry, w.Exposition)
			families, err := combined.Gather()
			if err != nil {
				b.Fatal(err)
			}
			scrape := scraper(combined)
			baseline := scraper(prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return families, nil }))
			var ratios, each []float64
			for b.Loop() {
				ours := scrape()
				ratios = append(ratios, ours/baseline())
				each = append(each, ours/float64(n))
			}
			slices.Sort(ratios)
			slices.Sort(each)
			b.ReportMetric(0, "ns/op") // Suppressed: it covers both scrapes.
			b.ReportMetric(each[len(each)/2], "ns/series")
			b.ReportMetric(ratios[len(ratios)/2], "times-baseline")
			b.ReportMetric(testing.AllocsPerRun(5, func() { scrape() })/float64(n), "allocs/series")
		})
	}
}

// scraper returns a func that scrapes and returns the duration in nanoseconds.
func scraper(g prometheus.Gatherer) func() float64 {
	handler := promhttp.HandlerFor(g, promhttp.HandlerOpts{DisableCompression: true})
	request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	return func() float64 {
		start := time.Now()
		handler.ServeHTTP(&discard{header: http.Header{}}, request)
		return float64(time.Since(start))
	}
}

// BenchmarkRefreshedScrape measures a scrape directly after a refresh was published.
func BenchmarkRefreshedScrape(b *testing.B) {
	w := collectortest.NewWorld()
	counts, err := manySeries(10_000).counts((&Config{}).groupings(), "contoso", time.Now().Add(time.Hour))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		w.Exposition.Publisher("contoso", "security_states").Publish(collector.Snapshot{Blocks: []*collector.Block{counts}})
		if _, err := w.Exposition.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}

type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}
