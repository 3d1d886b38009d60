// Package storage keeps, across restarts, what an exporter may lose only at a
// cost: the last values of its collectors and the times of the calls that were
// spent. docs/storage.md describes the files.
//
// Everything here is written so that a process may be killed at any moment and
// a disk may fill up or rot: what is read back is what was once written, or
// nothing. What cannot be read is set aside with a log line and never deleted.
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

// Storage is one directory, of which this process is the only user. One that is
// removed or replaced is opened anew. Its methods may be called concurrently.
type Storage struct {
	path          string
	logger        *slog.Logger
	values, calls writes

	opening sync.Mutex
	*opened
	closed bool

	mu      sync.Mutex
	tenants map[string]*Tenant
	ledgers map[string]*Ledger
}

// opened is the directory as it was opened, locked for this process.
type opened struct {
	root *os.Root
	lock *flock.Flock // Ends with the process, however that ends.
	info fs.FileInfo  // Of the lock.
}

// Open takes possession of the directory, creating it if need be. Content that
// is not this program's is left alone. An error means that nothing can be kept
// there: the directory is a file, cannot be written or belongs to another
// running exporter. The exporter can do its work without, and should say so.
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
		values: writes{logger: logger, name: "last values", level: slog.LevelWarn},
		// A restart that misses spent calls may spend the quota twice.
		calls:   writes{logger: logger, name: "spent calls", level: slog.LevelError},
		tenants: make(map[string]*Tenant), ledgers: make(map[string]*Ledger),
	}
	s.removeHalfWritten()
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

// directory returns the directory that is at the path now. Where that is not the
// one that was opened, or its lock is gone, it takes possession of it first.
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
	_ = s.close() // Nothing in it is of use any more.
	s.opened = o
	return s.root, nil
}

// Success reports whether the last write of every file succeeded. It is false for
// a nil Storage, and never waits for the disk.
func (s *Storage) Success() bool { return s != nil && s.values.good() && s.calls.good() }

// ErrInUse is in the chain of Open's error when another process has the
// directory open.
var ErrInUse = errors.New("in use by another process")

// Close gives the directory free. What is saved later is refused with an error
// that wraps [os.ErrClosed].
func (s *Storage) Close() error {
	s.opening.Lock()
	defer s.opening.Unlock()
	if s.closed {
		return os.ErrClosed
	}
	s.closed = true
	return s.close()
}

// fileName makes of a name a file name that a person recognizes, that every file
// system accepts and that no other name has, also where upper and lower case are
// the same.
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
	if len(readable) > longest {
		readable = readable[:longest]
	}
	sum := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%s-%x", readable, sum[:8])
}
