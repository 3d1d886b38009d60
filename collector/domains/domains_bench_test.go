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

// readList is a list of which every domain was read; one of a hundred has been
// contacted.
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
	w.publisher = (&collector.Exposition{}).Publisher("contoso", "watched_domains") // Nothing is shown meanwhile.
	w.publisher.Close()
	for i, d := range w.sorted {
		d.touch()
		w.schedule.start(d, time.Now())
		w.settle(&domainOutcome{domain: d, result: answerOf(i)})
	}
	w.Start(b.Context(), exposition.Publisher("contoso", "watched_domains"))
	return w, exposition
}

func answerOf(i int) *domainResult {
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

// BenchmarkAnAnswer publishes the result of one domain of many.
func BenchmarkAnAnswer(b *testing.B) {
	forEachList(b, func(b *testing.B, n int) {
		w, _ := readList(b, n)
		for i := 0; b.Loop(); i++ {
			d := w.sorted[i*7919%n]
			w.schedule.start(d, time.Now())
			w.settle(&domainOutcome{domain: d, result: answerOf(i)})
		}
	})
}

// BenchmarkTheNextDomain chooses the domain that is asked next.
func BenchmarkTheNextDomain(b *testing.B) {
	forEachList(b, func(b *testing.B, n int) {
		w, _ := readList(b, n)
		for b.Loop() {
			now := time.Now()
			v, _ := w.schedule.next(now, 0, wantedDomains{fresh: true, failed: true})
			w.schedule.start(v, now)
			w.schedule.answered(v)
		}
	})
}

// BenchmarkAListThatBecomesShort takes all domains but one off the list, and
// BenchmarkAListThatBecomesLong puts them on it.
func BenchmarkAListThatBecomesShort(b *testing.B) {
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

func BenchmarkAListThatBecomesLong(b *testing.B) {
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

// BenchmarkARoundsEnd looks for the domains that failed or hang.
func BenchmarkARoundsEnd(b *testing.B) {
	forEachList(b, func(b *testing.B, n int) {
		w, _ := readList(b, n)
		for b.Loop() {
			w.roundIsVoid()
			if _, err := w.endRound(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkANewFleet joins all domains with the states of a refresh.
func BenchmarkANewFleet(b *testing.B) {
	forEachList(b, func(b *testing.B, n int) {
		fleet := newFleet(time.Hour)
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

// BenchmarkAPageOfDomains lists them for the page.
func BenchmarkAPageOfDomains(b *testing.B) {
	forEachList(b, func(b *testing.B, n int) {
		w, _ := readList(b, n)
		for b.Loop() {
			if len(w.Page().Table.Rows) != n {
				b.Fatal("domains are missing")
			}
		}
	})
}

// BenchmarkAScrapeOfDomains merges the exposition after a domain has answered.
func BenchmarkAScrapeOfDomains(b *testing.B) {
	forEachList(b, func(b *testing.B, n int) {
		w, exposition := readList(b, n)
		for i := 0; b.Loop(); i++ {
			d := w.sorted[i*7919%n]
			w.schedule.start(d, time.Now())
			w.settle(&domainOutcome{domain: d, result: answerOf(i)})
			if _, err := exposition.Gather(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
