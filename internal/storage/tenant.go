package storage

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	valuesFormat  = "mde_exporter values "
	valuesVersion = 1
)

// minCompactSize is the size in bytes below which a journal is never compacted.
const minCompactSize = 64 << 10

// Tenant stores the values of one tenant in a journal, a file to which records
// are appended. The last record of a key counts; a record without JSON deletes
// the key. Only the positions of the records are in memory. The file is closed
// between calls: hundreds of tenants need no file descriptors. Methods are safe
// for concurrent use.
type Tenant struct {
	recordFile

	mu sync.Mutex
	// loadedFrom is the directory whose file was read. Nil if the file must be
	// read (again).
	loadedFrom *os.Root
	contents
	// compactAt is the size above which the journal is compacted.
	compactAt int64
}

// contents describes the records of a journal.
type contents struct {
	// records has the position of each key's last record.
	records map[string]span
	// size is the file size when this process last read or wrote it.
	size int64
	// live is the total size of all last records.
	live int64
}

// Tenant returns the storage of one tenant. It returns the same one for the same
// name, which may be any text.
func (s *Storage) Tenant(name string) *Tenant {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.tenants[name]
	if !ok {
		t = &Tenant{recordFile: recordFile{
			storage: s, logger: s.logger.With("tenant", name), name: fileName(name) + ".values",
			header: valuesFormat + strconv.Itoa(valuesVersion) + " " + strconv.Quote(name) + "\n",
		}}
		s.tenants[name] = t
	}
	return t
}

// Load decodes the value last saved under the key into v, a pointer, with
// encoding/json. It returns false and leaves v unchanged if there is no value. It
// also returns an error if the value cannot be read or decoded.
func (t *Tenant) Load(key string, v any) (bool, error) {
	data, err := t.get(key)
	if err != nil {
		return false, fmt.Errorf("load %s: %w", key, err)
	}
	if data == nil {
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

// get returns the value of the key, or nil if there is none.
func (t *Tenant) get(key string) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.load(); err != nil {
		return nil, err
	}
	at, ok := t.records[key]
	if !ok {
		return nil, nil
	}
	f, _, err := t.open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	line, err := readRecord(f, at)
	if err != nil {
		return nil, err
	}
	if got, value, ok := t.parseRecord(line); ok && got == key {
		return value, nil
	}
	return nil, fmt.Errorf("record at byte %d of %s has changed since it was written", at.offset, t.name)
}

// Save stores the value under the key, encoded by encoding/json. When Save
// returns nil, the value survives the end of the process; after an error the
// previous value is still stored. Use another key when the meaning of the value
// changes.
func (t *Tenant) Save(key string, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		err = t.write(key, data)
	}
	if t.storage.values.record(t.name, err) != nil {
		return fmt.Errorf("save %s: %w", key, err)
	}
	return nil
}

// Delete removes the value of the key, if there is one.
func (t *Tenant) Delete(key string) error {
	if err := t.storage.values.record(t.name, t.write(key, nil)); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// Keys returns the keys with this prefix that have a value, sorted.
func (t *Tenant) Keys(prefix string) ([]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.load(); err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	var keys []string
	for key := range t.records {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, nil
}

// write appends a record for the key. A nil value deletes the key.
func (t *Tenant) write(key string, value []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.load(); err != nil {
		return err
	}
	if _, ok := t.records[key]; !ok && value == nil {
		return nil
	}
	f, size, err := t.open()
	if err == nil && size != t.size {
		t.logger.Warn("Storage file was changed by another program, reading it again", "file", t.name)
		t.loadedFrom = nil
		if err = errors.Join(f.Close(), t.load()); err == nil {
			f, size, err = t.open()
		}
	}
	if err != nil {
		return err
	}
	at, err := t.append(f, size, t.formatRecord(key, value))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	t.set(key, value, at)
	if t.size > t.compactAt {
		t.compact()
	}
	return nil
}

// load reads the file, unless it was read already.
func (t *Tenant) load() error {
	root, err := t.storage.directory()
	if err != nil || t.loadedFrom == root {
		return err
	}
	read := contents{records: make(map[string]span)}
	f, _, err := t.openExisting()
	if err == nil {
		var found scanned
		found, err = t.scan(f, read.set)
		err = errors.Join(err, f.Close())
		if err == nil && found.first != nil {
			read = contents{records: make(map[string]span)}
			err = t.setAside(mismatch(found.first))
		} else if err == nil {
			if found.damaged > 0 {
				t.logger.Warn("Skipping damaged records of storage file, using the values saved before them",
					"file", t.name, "records", found.damaged)
			}
			read.size = found.size
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	t.loadedFrom, t.contents, t.compactAt = root, read, minCompactSize+2*read.live
	return nil
}

// set stores the position of the key's last record. A nil value deletes the key.
// The file size becomes the end of the record.
func (c *contents) set(key string, value []byte, at span) {
	c.size = at.offset + at.length
	c.live -= c.records[key].length
	delete(c.records, key)
	if value != nil {
		c.live += at.length
		c.records[key] = at
	}
}

// mismatch returns an error about a file whose first line is not this tenant's
// header.
func mismatch(first []byte) error {
	rest, ok := strings.CutPrefix(string(first), valuesFormat)
	if !ok {
		return errors.New("not a file of mde_exporter")
	}
	version, _, _ := strings.Cut(rest, " ")
	if n, err := strconv.Atoi(version); err == nil && n > valuesVersion {
		return fmt.Errorf("format version %d is newer than this program's %d", n, valuesVersion)
	}
	return errors.New("its first line is damaged or names another tenant")
}

// compact rewrites the journal with the last record of each key. On failure it
// logs a warning and the journal keeps growing.
func (t *Tenant) compact() {
	keys := slices.SortedFunc(maps.Keys(t.records), func(a, b string) int {
		return cmp.Compare(t.records[a].offset, t.records[b].offset)
	})
	compacted := contents{records: make(map[string]span, len(keys)), size: int64(len(t.header))}
	err := t.replace(func(w *bufio.Writer) error {
		old, _, err := t.open()
		if err != nil {
			return err
		}
		defer old.Close()
		for _, key := range keys {
			line, err := readRecord(old, t.records[key])
			if err != nil {
				return err
			}
			got, value, ok := t.parseRecord(line)
			if !ok || got != key {
				t.logger.Warn("Skipping damaged record of storage file", "file", t.name, "key", key)
				continue
			}
			if _, err := w.Write(line); err != nil {
				return err
			}
			compacted.set(key, value, span{offset: compacted.size, length: int64(len(line))})
		}
		return nil
	})
	if err != nil {
		t.logger.Warn("Compacting storage file failed, the file grows until compacting succeeds", "file", t.name, "bytes", t.size, "err", err)
		t.compactAt = t.size + t.live + minCompactSize
		return
	}
	t.contents, t.compactAt = compacted, minCompactSize+2*compacted.live
}
