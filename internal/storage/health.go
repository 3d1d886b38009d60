package storage

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"
)

// A kind is one kind of what is written, as the log names it.
type kind struct {
	name  string
	level slog.Level // Of the log line about a write that failed.
}

var (
	lastValues = kind{"Last values", slog.LevelWarn}
	// A restart that misses spent calls may spend the quota twice.
	spentCallsKind = kind{"Spent calls", slog.LevelError}
)

// logAgainAfter lies between two log lines about one kind of write that fails: a
// full disk stays full for a while, and something is written every few seconds.
const logAgainAfter = 15 * time.Minute

// health knows which files could not be written the last time, and logs each
// kind of failure now and then. The zero health is ready once it has a logger.
type health struct {
	logger *slog.Logger

	mu    sync.Mutex
	kinds map[kind]*kindHealth
}

type kindHealth struct {
	failing map[string]bool // By file.
	logged  time.Time       // When a failure was last logged.
	told    bool            // The failure that lasts was logged.
}

// wrote takes the result of writing a file. After Close nothing is written, and
// nothing is wrong.
func (h *health) wrote(what kind, file string, err error) {
	if errors.Is(err, os.ErrClosed) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.kinds[what]
	if k == nil {
		if err == nil {
			return
		}
		k = &kindHealth{failing: make(map[string]bool)}
		if h.kinds == nil {
			h.kinds = make(map[kind]*kindHealth)
		}
		h.kinds[what] = k
	}
	if err == nil {
		k.recovered(h.logger, what, file)
		return
	}
	k.failing[file] = true
	if now := time.Now(); now.Sub(k.logged) >= logAgainAfter {
		k.logged, k.told = now, true
		h.logger.Log(context.Background(), what.level, what.name+" cannot be written to --storage.path: a restart will miss them", "file", file, "files_failing", len(k.failing), "err", err)
	}
}

// recovered takes a file off those that fail.
func (k *kindHealth) recovered(logger *slog.Logger, what kind, file string) {
	if !k.failing[file] {
		return
	}
	delete(k.failing, file)
	if len(k.failing) == 0 && k.told {
		k.told = false
		logger.Info(what.name + " can be written again")
	}
}

// forget takes the files that are not in use off those that fail.
func (h *health) forget(inUse func(file string) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for what, k := range h.kinds {
		for file := range k.failing {
			if !inUse(file) {
				k.recovered(h.logger, what, file)
			}
		}
	}
}

// good reports whether the last write of every file succeeded.
func (h *health) good() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range h.kinds {
		if len(k.failing) > 0 {
			return false
		}
	}
	return true
}
