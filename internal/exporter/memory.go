package exporter

import (
	"encoding/json"
	"strings"
	"sync"

	"github.com/mde-exporter/mde_exporter/collector"
)

// memory is the collector.Store of an exporter without storage: a collector
// that a reload replaces hands its values to the next one, and none outlive the
// process.
type memory struct {
	mu     sync.Mutex
	values map[string][]byte
}

var _ collector.Store = (*memory)(nil)

func newMemory() *memory { return &memory{values: make(map[string][]byte)} }

func (m *memory) Load(key string, v any) (bool, error) {
	m.mu.Lock()
	data, ok := m.values[key]
	m.mu.Unlock()
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal(data, v)
}

func (m *memory) Save(key string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[key] = data
	return nil
}

func (m *memory) Delete(key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, key)
	return nil
}

func (m *memory) Keys(prefix string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for key := range m.values {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}
