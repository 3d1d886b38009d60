package collector

import (
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
)

// Store stores values across restarts, under keys such as "security_states" and
// "watched_domains/evil.example". A Store belongs to one tenant. Its methods may be called
// concurrently.
type Store interface {
	// Load decodes the value of the key into v, a pointer, and reports whether there was
	// one.
	Load(key string, v any) (bool, error)
	// Save and Delete log their errors themselves, because most errors concern all
	// collectors and are logged once.
	Save(key string, v any) error
	Delete(key string) error
	// Keys returns the keys that have a value and begin with the prefix, in any
	// order.
	Keys(prefix string) ([]string, error)
}

// Memory wraps a Store and logs its errors. A collector counts and exposes values even if
// they cannot be stored.
type Memory struct {
	store  Store
	logger *slog.Logger
}

// Load decodes the value of the key into v and reports whether there was one.
func (m Memory) Load(key string, v any) bool {
	found, err := m.store.Load(key, v)
	if err != nil {
		m.logger.Warn("Ignoring stored value, cannot read it", "key", key, "err", err)
	}
	return found && err == nil
}

// Save stores the value of the key.
func (m Memory) Save(key string, v any) { _ = m.store.Save(key, v) } // The store logs the error.

// Remove deletes the value of the key.
func (m Memory) Remove(key string) { _ = m.store.Delete(key) } // The store logs the error.

// Keys returns the keys that begin with the prefix and that could be listed.
func (m Memory) Keys(prefix string) []string {
	keys, err := m.store.Keys(prefix)
	if err != nil {
		m.logger.Warn("Listing stored values failed", "prefix", prefix, "err", err)
	}
	return keys
}

// MemoryStore is a Store in memory. With it, a collector that replaces another one on a
// reload keeps its values. The zero MemoryStore is empty.
type MemoryStore struct {
	mu sync.Mutex
	// Values are JSON texts by key. They may be set before the store is used.
	Values map[string]string
}

// Load implements Store.
func (s *MemoryStore) Load(key string, v any) (bool, error) {
	s.mu.Lock()
	text, ok := s.Values[key]
	s.mu.Unlock()
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal([]byte(text), v)
}

// Save implements Store.
func (s *MemoryStore) Save(key string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Values == nil {
		s.Values = make(map[string]string)
	}
	s.Values[key] = string(text)
	return nil
}

// Delete implements Store.
func (s *MemoryStore) Delete(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.Values, key)
	return nil
}

// Keys implements Store.
func (s *MemoryStore) Keys(prefix string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for key := range s.Values {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}
