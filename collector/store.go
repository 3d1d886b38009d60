package collector

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// Store keeps plain values across restarts, under keys such as
// "security_states" and "watched_domains/evil.example". A Store belongs to one
// tenant; its methods may be called concurrently.
type Store interface {
	// Load fills v, a pointer, with the value of the key and reports whether
	// there was one.
	Load(key string, v any) (bool, error)
	Save(key string, v any) error
	Delete(key string) error
	// Keys returns the keys that have a value and begin with the prefix, in any
	// order.
	Keys(prefix string) ([]string, error)
}

// memory is a Store whose faults are told in the log and go no further: what
// cannot be remembered is still counted and exposed. Without a Store it
// remembers nothing.
type memory struct {
	store  Store
	logger *slog.Logger
	told   *atomic.Int64 // When the log last told that nothing can be stored: Unix nanoseconds.
}

func newMemory(store Store, logger *slog.Logger) memory {
	return memory{store: store, logger: logger, told: new(atomic.Int64)}
}

// tellAgainAfter lies between two log lines about values that cannot be stored:
// a full disk stays full for a while, and a long watch list has a value every
// few seconds.
const tellAgainAfter = 15 * time.Minute

func (m memory) load(key string, v any) bool {
	if m.store == nil {
		return false
	}
	found, err := m.store.Load(key, v)
	if err != nil {
		m.logger.Warn("A stored value could not be read and is set aside", "key", key, "err", err)
		return false
	}
	return found
}

func (m memory) save(key string, v any) {
	if m.store == nil {
		return
	}
	err := m.store.Save(key, v)
	if err == nil {
		return
	}
	now, told := time.Now(), m.told.Load()
	if now.Sub(time.Unix(0, told)) >= tellAgainAfter && m.told.CompareAndSwap(told, now.UnixNano()) {
		m.logger.Warn("A value could not be stored; it would be missing after a restart", "key", key, "err", err)
	}
}

func (m memory) remove(key string) {
	if m.store == nil {
		return
	}
	if err := m.store.Delete(key); err != nil {
		m.logger.Warn("A stored value could not be deleted", "key", key, "err", err)
	}
}

// keys returns the keys of the prefix, as far as they can be listed.
func (m memory) keys(prefix string) []string {
	if m.store == nil {
		return nil
	}
	keys, err := m.store.Keys(prefix)
	if err != nil {
		m.logger.Warn("Stored values cannot be listed", "prefix", prefix, "err", err)
	}
	return keys
}
