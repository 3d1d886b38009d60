package collector

import (
	"reflect"
	"sync"
)

// Shared contains values that several collectors use, one of each type. Its methods may be
// called concurrently. The zero Shared is empty.
type Shared struct {
	mu     sync.Mutex
	values map[reflect.Type]any
	loads  []func()
}

// Share returns the value of the type T. The first call creates it. The function load, if
// not nil, is called by Shared.Load.
func Share[T any](s *Shared, create func() (value *T, load func())) *T {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := reflect.TypeFor[T]()
	if v, ok := s.values[key]; ok {
		return v.(*T)
	}
	v, load := create()
	if s.values == nil {
		s.values = map[reflect.Type]any{}
	}
	s.values[key] = v
	if load != nil {
		s.loads = append(s.loads, load)
	}
	return v
}

// Load is called after a configuration was loaded and its collectors were created, before
// any of them starts.
func (s *Shared) Load() {
	s.mu.Lock()
	loads := s.loads
	s.mu.Unlock()
	for _, load := range loads {
		load()
	}
}
