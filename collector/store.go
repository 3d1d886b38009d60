package collector

import (
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
)

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
// be remembered is still counted and exposed.
type Memory struct {
	store  Store
	logger *slog.Logger
}

// Load fills v with the value of the key and reports whether there was one.
func (m Memory) Load(key string, v any) bool {
	found, err := m.store.Load(key, v)
	if err != nil {
		m.logger.Warn("Ignoring stored value, cannot read it", "key", key, "err", err)
	}
	return found && err == nil
}

// Save stores the value of the key.
func (m Memory) Save(key string, v any) { _ = m.store.Save(key, v) } // Logged there.

// Remove deletes the value of the key.
func (m Memory) Remove(key string) { _ = m.store.Delete(key) } // Logged there.

// Keys returns the keys of the prefix, as far as they can be listed.
func (m Memory) Keys(prefix string) []string {
	keys, err := m.store.Keys(prefix)
	if err != nil {
		m.logger.Warn("Listing stored values failed", "prefix", prefix, "err", err)
	}
	return keys
}

// MemoryStore is a Store within the process: a collector that a reload replaces
// hands its values to the next one. The zero MemoryStore is empty.
type MemoryStore struct {
	mu sync.Mutex
	// Values are JSON texts by key. They are for who makes the store.
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
