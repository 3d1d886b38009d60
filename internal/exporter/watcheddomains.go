package exporter

import (
	"context"
	"log/slog"
	"sync"
	"time"

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
	logger    *slog.Logger

	reading sync.Mutex // Held while the files are read.
	digest  string     // Of the files that were read last.

	mu      sync.Mutex
	mistake string // In the files as they are now; the list is then the last good one.
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

// follow looks at the files until the context ends. It compares their content,
// which tells every way to replace a file.
func (w *watchedDomains) follow(ctx context.Context) {
	ticker := time.NewTicker(listCheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			w.readAgain()
		case <-ctx.Done():
			return
		}
	}
}

// readAgain reads the files if they changed. A mistake in them changes nothing
// but what the log and the page say.
func (w *watchedDomains) readAgain() {
	w.reading.Lock()
	defer w.reading.Unlock()
	digest := w.config.Digest()
	if digest == w.digest {
		return
	}
	w.digest = digest
	domains, problems := w.config.Read()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(problems) > 0 {
		w.mistake = problems.Error()
		w.logger.Error("A watch-list file has a mistake; the last good list stays in force", "err", problems)
		return
	}
	w.mistake = ""
	w.logger.Info("The watch-list files are read again", "domains", len(domains))
	w.collector.SetDomains(domains)
}

// notes are those of the collector and of the files.
func (w *watchedDomains) notes(notes []string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mistake == "" {
		return notes
	}
	return append([]string{"The last good watch list stays in force: " + w.mistake}, notes...)
}
