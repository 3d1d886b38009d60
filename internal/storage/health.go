package storage

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"
)

// logAgainAfter lies between two log lines about one kind of write that fails: a
// full disk stays full for a while, and something is written every few seconds.
const logAgainAfter = 15 * time.Minute

// writes knows which files of one kind could not be written the last time, and
// logs failures now and then. Its methods may be called concurrently.
type writes struct {
	logger *slog.Logger
	name   string     // Of the kind, in the log.
	level  slog.Level // Of the log line about a failure.

	mu      sync.Mutex
	failing map[string]bool // By file.
	last    time.Time       // When a failure was last logged.
	logged  bool            // The failure that lasts was logged.
}

// wrote takes the result of writing a file, and returns it. After Close nothing is
// written, and nothing is wrong.
func (w *writes) wrote(file string, err error) error {
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
	if now := time.Now(); now.Sub(w.last) >= logAgainAfter {
		w.last, w.logged = now, true
		w.logger.Log(context.Background(), w.level, "Writing "+w.name+" to --storage.path failed, a restart loses them",
			"file", file, "files_failing", len(w.failing), "err", err)
	}
	return err
}

// recovered takes a file off those that fail. The mutex is held.
func (w *writes) recovered(file string) {
	if !w.failing[file] {
		return
	}
	delete(w.failing, file)
	if len(w.failing) == 0 && w.logged {
		w.logged = false
		w.logger.Info("Writing " + w.name + " succeeded again")
	}
}

// forget takes the files that are not in use off those that fail.
func (w *writes) forget(inUse func(file string) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for file := range w.failing {
		if !inUse(file) {
			w.recovered(file)
		}
	}
}

// good reports whether the last write of every file succeeded.
func (w *writes) good() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.failing) == 0
}
