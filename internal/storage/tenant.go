package storage

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// Tenant keeps the values of one tenant. Its methods may be called concurrently. It never holds a file open between two calls, so that
// hundreds of tenants cost no file descriptors.
type Tenant struct {
	journal journal
}

// Load reads into v, a pointer, the value that was last saved under the key,
// as encoding/json does. It returns false, and leaves v as it is, when there is
// none, and an error as well when there is one that cannot be read into v.
func (t *Tenant) Load(key string, v any) (bool, error) {
	data, ok, err := t.journal.get(key)
	if err != nil {
		return false, fmt.Errorf("load %s: %w", key, err)
	}
	if !ok {
		return false, nil
	}
	target := reflect.ValueOf(v).Elem()
	value := reflect.New(target.Type())
	if err := json.Unmarshal(data, value.Interface()); err != nil {
		return false, fmt.Errorf("load %s: %w", key, err)
	}
	target.Set(value.Elem())
	return true, nil
}

// Save keeps the value under the key, as encoding/json writes it. When it
// returns nil the value outlives the process, however the process ends; when it
// returns an error the value before it is still there. Whoever changes the
// meaning of what is saved changes the key too.
func (t *Tenant) Save(key string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return t.journal.wrote(fmt.Errorf("save %s: %w", key, err))
	}
	if err := t.journal.put(key, data); err != nil {
		return fmt.Errorf("save %s: %w", key, err)
	}
	return nil
}

// Delete forgets the value of the key, if there is one.
func (t *Tenant) Delete(key string) error {
	if err := t.journal.delete(key); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// Keys returns the keys that have a value and begin with the prefix, sorted.
func (t *Tenant) Keys(prefix string) ([]string, error) {
	keys, err := t.journal.keys(prefix)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	return keys, nil
}
