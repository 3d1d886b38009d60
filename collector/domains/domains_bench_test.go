package domains

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/attention"
)

var benchmarkedLists = []int{10_000, 200_000}

// readList returns a collector whose domains have all been read. One of a hundred has
// been contacted.
func readList(b *testing.B, n int, o ...func(*Options)) (*Collector, *collector.Exposition) {
	b.Helper()
	options := Options{
		Env:    collector.Env{Shared: &collector.Shared{}, Tenant: "contoso", Logger: slog.New(slog.DiscardHandler), Metrics: collector.NewMetrics(prometheus.NewRegistry()).Tenant("contoso")},
		Config: Config{Domains: domainNames(n)}, Interval: time.Hour,
	}
	for _, f := range o {
		f(&options)
	}
	w, exposition := options.collector(&quickDomains{}), &collector.Exposition{}
	w.publisher = (&collector.Exposition{}).Publisher("contoso", "watched_domains") // Discards what is published meanwhile.
	w.publisher.Close()
	for i, d := range w.sorted {
		d.touch()
		w.schedule.start(d, time.Now())
		w.publishAndStore(&domainOutcome{domain: d, result: resultOf(i)})
	}
	w.Start(b.Context(), exposition.Publisher("contoso", "watched_domains"))
	return w, exposition
}

func resultOf(i int) *domainResult {
	r := &domainResult{At: collector.Wall(time.Now())}
	if i%100 == 0 {
		r.Machines, r.Risk = 50, map[string]int{"None": 50}
		for n := range 50 {
			m := id(50*i + n)
			r.IDs = append(r.IDs, m[:]...)
		}
	}
	return r
}

func forEachList(b *testing.B, f func(b *testing.B, n int)) {
	for _, n := range benchmarkedLists {
		b.Run(fmt.Sprintf("%d domains", n), func(b *testing.B) { f(b, n) })
	}
}

// BenchmarkPublishResult publishes the result of one of many domains.
func BenchmarkPublishResult(b *testing.B) {
	forEachList(b, func(b *testing.B, n int) {
		w, _ := readList(b, n)
		for i := 0; b.Loop(); i++ {
			d := w.sorted[i*7919%n]
			w.schedule.start(d, time.Now())
			w.publishAndStore(&domainOutcome{domain: d, result: resultOf(i)})
		}
	})
}

// BenchmarkNextDomain selects the next domain to look up.
func BenchmarkNextDomain(b *testing.B) {
	forEachList(b, func(b *testing.B, n int) {
		w, _ := readList(b, n)
		for b.Loop() {
			now := time.Now()
			v, _ := w.schedule.next(now, 0, wantedDomains{fresh: true, failed: true})
			w.schedule.start(v, now)
			w.schedule.succeeded(v)
		}
	})
}

// BenchmarkShrinkList removes all domains but one from the list.
func BenchmarkShrinkList(b *testing.B) {
	forEachList(b, func(b *testing.B, n int) {
		for b.Loop() {
			b.StopTimer()
			w, _ := readList(b, n)
			w.lists[0].listed = domainNames(1)
			b.StartTimer()
			w.regroup()
			w.publish()
		}
	})
}

// BenchmarkGrowList adds many domains to the list.
func BenchmarkGrowList(b *testing.B) {
	forEachList(b, func(b *testing.B, n int) {
		for b.Loop() {
			b.StopTimer()
			w, _ := readList(b, 1000)
			w.lists[0].listed = domainNames(n)
			b.StartTimer()
			w.regroup()
			w.publish()
		}
	})
}

// BenchmarkEndRound searches the domains that failed or hang.
func BenchmarkEndRound(b *testing.B) {
	forEachList(b, func(b *testing.B, n int) {
		w, _ := readList(b, n)
		for b.Loop() {
			w.roundIsInconclusive()
			if _, err := w.endRound(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRejoin joins all domains with a new fleet.
func BenchmarkRejoin(b *testing.B) {
	forEachList(b, func(b *testing.B, n int) {
		fleet := &attention.Index{}
		w, _ := readList(b, n, func(o *Options) { o.Attention = fleet })
		index := make(machineSets)
		for i := range 100_000 {
			index[id(i)] = attention.PropertySet{1}
		}
		machines := attention.New(index, nil, nil)
		for b.Loop() {
			fleet.Set(&attention.State{At: collector.Wall(time.Now()), MaxAge: time.Hour, Machines: machines})
			w.rejoin()
		}
	})
}

// BenchmarkPage builds the page.
func BenchmarkPage(b *testing.B) {
	forEachList(b, func(b *testing.B, n int) {
		w, _ := readList(b, n)
		for b.Loop() {
			if len(w.Page().Table.Rows) != n {
				b.Fatal("domains are missing")
			}
		}
	})
}

// BenchmarkScrape merges the exposition after a result was published.
func BenchmarkScrapeDomains(b *testing.B) {
	forEachList(b, func(b *testing.B, n int) {
		w, exposition := readList(b, n)
		for i := 0; b.Loop(); i++ {
			d := w.sorted[i*7919%n]
			w.schedule.start(d, time.Now())
			w.publishAndStore(&domainOutcome{domain: d, result: resultOf(i)})
			if _, err := exposition.Gather(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
