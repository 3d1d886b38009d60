package collector

import "log/slog"

// Store keeps plain values across restarts, under keys such as
// "security_states" and "watched_domains/evil.example". A Store belongs to one
// tenant; its methods may be called concurrently.
type Store interface {
	// Load fills v, a pointer, with the value of the key and reports whether
	// there was one.
	Load(key string, v any) (bool, error)
	Save(key string, v any) error
	Delete(key string) error
}

// memory is a Store whose faults are told in the log and go no further: what
// cannot be remembered is still counted and exposed. Without a Store it
// remembers nothing.
type memory struct {
	store  Store
	logger *slog.Logger
}

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
	if err := m.store.Save(key, v); err != nil {
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
