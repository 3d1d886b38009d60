// Package storage keeps an exporter's state across restarts: the last values of
// its collectors and the times of spent calls. docs/storage.md describes the
// files.
//
// The process may be killed at any moment, and the disk may be full or damaged. A
// read returns a value as it was written, or nothing. Unreadable files are logged
// and set aside, never deleted.
package storage

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/gofrs/flock"
)

const lockName = "mde_exporter.lock"

// Storage is one directory that this process has locked. It opens the directory
// again after it was removed or replaced. Its methods are safe for concurrent
// use.
type Storage struct {
	path          string
	logger        *slog.Logger
	values, calls writeHealth

	opening sync.Mutex
	*opened
	closed bool

	mu      sync.Mutex
	tenants map[string]*Tenant
	ledgers map[string]*Ledger
}

// opened is an open directory, locked for this process.
type opened struct {
	root *os.Root
	lock *flock.Flock // Released when the process ends, however it ends.
	info fs.FileInfo  // Of the lock file.
}

// Open locks the directory and creates it if it is missing. It leaves other
// programs' files unchanged. It returns an error if nothing can be stored: dir is
// a file, is not writable, or is locked by another process ([ErrInUse]). The
// exporter works without storage, so callers should log the error and continue.
func Open(dir string, logger *slog.Logger) (*Storage, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open storage directory: %w", err)
	}
	o, err := openDirectory(path)
	if err != nil {
		return nil, err
	}
	s := &Storage{
		path: path, logger: logger, opened: o,
		values: writeHealth{logger: logger, name: "last values", level: slog.LevelWarn},
		// Without its spent calls a restarted exporter may exceed the quota.
		calls:   writeHealth{logger: logger, name: "spent calls", level: slog.LevelError},
		tenants: make(map[string]*Tenant), ledgers: make(map[string]*Ledger),
	}
	s.removeTemporary()
	return s, nil
}

func openDirectory(dir string) (*opened, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create storage directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open storage directory: %w", err)
	}
	o := &opened{root: root, lock: flock.New(filepath.Join(dir, lockName), flock.SetFlag(os.O_RDWR|os.O_CREATE), flock.SetPermissions(0o600))}
	locked, err := o.lock.TryLock()
	if err == nil && !locked {
		err = ErrInUse
	}
	if err == nil {
		o.info, err = root.Stat(lockName)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock storage directory %s: %w", dir, err), o.close())
	}
	return o, nil
}

func (o *opened) close() error { return errors.Join(o.root.Close(), o.lock.Close()) }

// directory returns the directory at the path. If it was removed or replaced, or
// its lock file is missing, directory opens and locks it again.
func (s *Storage) directory() (*os.Root, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	if s.closed {
		return nil, os.ErrClosed
	}
	if there, err := os.Stat(filepath.Join(s.path, lockName)); err == nil && os.SameFile(there, s.info) {
		return s.root, nil
	}
	o, err := openDirectory(s.path)
	if err != nil {
		return nil, err
	}
	s.logger.Warn("Storage directory was removed or replaced, opening it again", "path", s.path)
	_ = s.close() // The old directory is no longer used.
	s.opened = o
	return s.root, nil
}

// Success reports whether the last write of every file succeeded. It returns
// false for a nil Storage and never waits for the disk.
func (s *Storage) Success() bool { return s != nil && s.values.ok() && s.calls.ok() }

// ErrInUse means that another process has locked the directory. Open wraps it.
var ErrInUse = errors.New("in use by another process")

// Close unlocks the directory. Later writes fail with [os.ErrClosed].
func (s *Storage) Close() error {
	s.opening.Lock()
	defer s.opening.Unlock()
	if s.closed {
		return os.ErrClosed
	}
	s.closed = true
	return s.close()
}

// fileName returns a readable file name that is valid on every file system and
// unique for each name, on case-insensitive file systems too.
func fileName(name string) string {
	readable := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '-':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		default:
			return '_'
		}
	}, name)
	const longest = 40
	readable = readable[:min(longest, len(readable))]
	sum := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%s-%x", readable, sum[:8])
}
