package exporter

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/config"
)

// listCheckInterval lies between two looks at the watch-list files.
const listCheckInterval = 5 * time.Second

// watchedDomains runs the collector of watched domains and gives it the list
// anew when a watch-list file changes.
type watchedDomains struct {
	run
	collector *collector.WatchedDomains
	config    config.WatchedDomains
	lists     *config.WatchLists

	mu   sync.Mutex
	list *config.WatchList // That the collector has.
}

// start runs the collector, unless it runs already.
func (w *watchedDomains) start() {
	if w.cancel != nil {
		return
	}
	w.run.start()
	if len(w.config.Files) > 0 {
		w.running.Go(func() { w.follow(w.ctx) })
	}
}

// follow looks at the files until the context ends.
func (w *watchedDomains) follow(ctx context.Context) {
	ticker := time.NewTicker(listCheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			w.lists.Poll(ctx)
			w.update()
		case <-ctx.Done():
			return
		}
	}
}

// update gives the collector the list as it was last read.
func (w *watchedDomains) update() {
	list := w.lists.List(w.config.Files)
	w.mu.Lock()
	defer w.mu.Unlock()
	changed := !slices.Equal(list.Domains, w.list.Domains)
	w.list = list
	if changed {
		w.collector.SetDomains(w.config.WithList(list))
	}
}

func (w *watchedDomains) current() *config.WatchList {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.list
}

// notes are those of the collector and of the files.
func (w *watchedDomains) notes(notes []string) []string {
	switch list := w.current(); {
	case list.Old:
		return append([]string{"The last good watch list stays in force: " + list.Summary()}, notes...)
	case len(list.Mistakes) > 0:
		return append([]string{"Only the lines of the watch list that are right are in force: " + list.Summary()}, notes...)
	default:
		return notes
	}
}

// listReads collects whether the watch lists of the tenants in force could be read.
type listReads struct{ exporter *Exporter }

var listRead = prometheus.NewDesc("mde_watched_domains_list_last_read_successful",
	"1 while every file of the watch list was read without a mistake the last time; "+
		"0: an older list is in force, or, after a start, only the lines that are right.", []string{"tenant"}, nil)

func (l listReads) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- listRead }

func (l listReads) Collect(metrics chan<- prometheus.Metric) {
	_, tenants := l.exporter.inForce()
	for name, t := range tenants {
		if t.domains == nil {
			continue
		}
		successful := 1.0
		if len(t.domains.current().Mistakes) > 0 {
			successful = 0
		}
		metric, err := prometheus.NewConstMetric(listRead, prometheus.GaugeValue, successful, name)
		if err != nil {
			metric = prometheus.NewInvalidMetric(listRead, err)
		}
		metrics <- metric
	}
}
