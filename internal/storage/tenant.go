package storage

import (
	"bufio"
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

// leastJournal is the size below which a journal is never compacted.
const leastJournal = 64 << 10

// Tenant keeps the values of one tenant in a journal: a file to which records are
// appended. The last record of a key holds; one without JSON deletes the key.
// Its methods may be called concurrently. Where the records are is in memory, the
// values are not, and no file is held open between two calls, so that hundreds of
// tenants cost no file descriptors.
type Tenant struct {
	recordFile

	mu sync.Mutex
	// loadedFrom is the directory whose file was read, nil before and where the
	// file has to be read again.
	loadedFrom *os.Root
	contents
	// compactAt is the size past which the journal is written anew.
	compactAt int64
}

// contents is what is known of a journal's file.
type contents struct {
	// records has the place of each key's last record.
	records map[string]span
	// size is that of the file when this process last read or wrote it.
	size int64
	// live is the size of all records that hold.
	live int64
}

// Tenant returns the part of the storage that belongs to one tenant, always the
// same for the same name. Any name will do.
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

// Load reads into v, a pointer, the value that was last saved under the key,
// as encoding/json does. It returns false, and leaves v as it is, when there is
// none, and an error as well when there is one that cannot be read into v.
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

// get returns the value of the key, nil where there is none.
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

// Save keeps the value under the key, as encoding/json writes it. When it
// returns nil the value outlives the process, however the process ends; when it
// returns an error the value before it is still there. Whoever changes the
// meaning of what is saved changes the key too.
func (t *Tenant) Save(key string, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		err = t.write(key, data)
	}
	if t.storage.values.wrote(t.name, err) != nil {
		return fmt.Errorf("save %s: %w", key, err)
	}
	return nil
}

// Delete forgets the value of the key, if there is one.
func (t *Tenant) Delete(key string) error {
	if err := t.storage.values.wrote(t.name, t.write(key, nil)); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// Keys returns the keys that have a value and begin with the prefix, sorted.
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

// write appends a record for the key, without JSON where the value is nil.
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
	t.hold(key, value, at)
	if t.size > t.compactAt {
		t.compact()
	}
	return nil
}

// load reads the file, unless that has been done.
func (t *Tenant) load() error {
	root, err := t.storage.directory()
	if err != nil || t.loadedFrom == root {
		return err
	}
	read := contents{records: make(map[string]span)}
	f, _, err := t.openExisting()
	if err == nil {
		var found scanned
		found, err = t.scan(f, read.hold)
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
	t.loadedFrom, t.contents, t.compactAt = root, read, leastJournal+2*read.live
	return nil
}

// hold records that the key's last record is there, or without a value that the
// key is deleted. The file reaches to the record's end.
func (c *contents) hold(key string, value []byte, at span) {
	c.size = at.offset + at.length
	c.live -= c.records[key].length
	delete(c.records, key)
	if value != nil {
		c.live += at.length
		c.records[key] = at
	}
}

// mismatch describes a file whose first line is not the tenant's.
func mismatch(first []byte) error {
	rest, ok := strings.CutPrefix(string(first), valuesFormat)
	if !ok {
		return errors.New("not a file of mde_exporter's")
	}
	version, _, _ := strings.Cut(rest, " ")
	if n, err := strconv.Atoi(version); err == nil && n > valuesVersion {
		return fmt.Errorf("format version %d is newer than this program's %d", n, valuesVersion)
	}
	return errors.New("its first line is damaged or names another tenant")
}

// compact writes the journal anew without what no longer holds. A failure costs
// nothing but space.
func (t *Tenant) compact() {
	keys := slices.SortedFunc(maps.Keys(t.records), func(a, b string) int {
		return int(t.records[a].offset - t.records[b].offset)
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
			compacted.hold(key, value, span{offset: compacted.size, length: int64(len(line))})
		}
		return nil
	})
	if err != nil {
		t.logger.Warn("Compacting storage file failed, the file grows until compacting succeeds", "file", t.name, "bytes", t.size, "err", err)
		t.compactAt = t.size + t.live + leastJournal
		return
	}
	t.contents, t.compactAt = compacted, leastJournal+2*compacted.live
}
