package exporter

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
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

	updating sync.Mutex                       // Held while the collector takes a list, which may write to the storage.
	list     atomic.Pointer[config.WatchList] // That the collector has, or is about to.
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
	w.updating.Lock()
	defer w.updating.Unlock()
	list := w.lists.List(w.config.Files)
	last := w.list.Swap(list)
	if !slices.Equal(list.Domains, last.Domains) {
		w.collector.SetDomains(w.config.WithList(list))
	}
}

// notes are those of the collector and of the files.
func (w *watchedDomains) notes(notes []string) []string {
	switch list := w.list.Load(); {
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
		if len(t.domains.list.Load().Mistakes) > 0 {
			successful = 0
		}
		metric, err := prometheus.NewConstMetric(listRead, prometheus.GaugeValue, successful, name)
		if err != nil {
			metric = prometheus.NewInvalidMetric(listRead, err)
		}
		metrics <- metric
	}
}
