package collector

import "log/slog"

// Store keeps plain values across restarts, under keys such as
// "security_states" and "watched_domains/evil.example". A Store belongs to one
// tenant; its methods may be called concurrently.
type Store interface {
	// Load fills v, a pointer, with the value of the key and reports whether
	// there was one.
	Load(key string, v any) (bool, error)
	// Save and Delete log their errors themselves, as often as is of use, since
	// what concerns one collector mostly concerns all.
	Save(key string, v any) error
	Delete(key string) error
	// Keys returns the keys that have a value and begin with the prefix, in any
	// order.
	Keys(prefix string) ([]string, error)
}

// Memory is a Store whose faults are logged and change nothing else: what cannot
// be remembered is still counted and exposed. Without a Store it remembers nothing.
type Memory struct {
	store  Store
	logger *slog.Logger
}

func newMemory(store Store, logger *slog.Logger) Memory {
	return Memory{store: store, logger: logger}
}

// Load fills v with the value of the key and reports whether there was one.
func (m Memory) Load(key string, v any) bool {
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

// Save stores the value of the key.
func (m Memory) Save(key string, v any) {
	if m.store != nil {
		_ = m.store.Save(key, v) // Logged there.
	}
}

// Remove deletes the value of the key.
func (m Memory) Remove(key string) {
	if m.store != nil {
		_ = m.store.Delete(key) // Logged there.
	}
}

// Keys returns the keys of the prefix, as far as they can be listed.
func (m Memory) Keys(prefix string) []string {
	if m.store == nil {
		return nil
	}
	keys, err := m.store.Keys(prefix)
	if err != nil {
		m.logger.Warn("Stored values cannot be listed", "prefix", prefix, "err", err)
	}
	return keys
}
