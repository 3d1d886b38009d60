package storage

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"
)

// failureLogInterval is the minimum time between two log lines about failed
// writes of one kind. A full disk fails every few seconds.
const failureLogInterval = 15 * time.Minute

// writeHealth tracks which files of one kind failed to be written the last time,
// and logs failures at most every failureLogInterval. Its methods are safe for
// concurrent use.
type writeHealth struct {
	logger *slog.Logger
	name   string     // Name of the kind in the log.
	level  slog.Level // Log level of a failure.

	mu      sync.Mutex
	failing map[string]bool // Files whose last write failed.
	last    time.Time       // Time of the last logged failure.
	logged  bool            // The current failure was logged.
}

// record stores the result of writing a file and returns err. It ignores
// [os.ErrClosed], which writes return after Close.
func (w *writeHealth) record(file string, err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.recovered(file)
	}
	if err == nil || errors.Is(err, os.ErrClosed) {
		return err
	}
	if w.failing == nil {
		w.failing = make(map[string]bool)
	}
	w.failing[file] = true
	if now := time.Now(); now.Sub(w.last) >= failureLogInterval {
		w.last, w.logged = now, true
		w.logger.Log(context.Background(), w.level, "Writing "+w.name+" to --storage.path failed, a restart loses them",
			"file", file, "files_failing", len(w.failing), "err", err)
	}
	return err
}

// recovered removes a file from the failing ones. The caller holds the mutex.
func (w *writeHealth) recovered(file string) {
	if !w.failing[file] {
		return
	}
	delete(w.failing, file)
	if len(w.failing) == 0 && w.logged {
		w.logged = false
		w.logger.Info("Writing " + w.name + " succeeded again")
	}
}

// dropUnused removes files that are no longer in use from the failing ones.
func (w *writeHealth) dropUnused(inUse func(file string) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for file := range w.failing {
		if !inUse(file) {
			w.recovered(file)
		}
	}
}

// ok reports whether the last write of every file succeeded.
func (w *writeHealth) ok() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.failing) == 0
}
