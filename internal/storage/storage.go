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
	"strings"
	"sync"
	"time"
)

const lockName = "mde_exporter.lock"

// Storage is one directory, of which this process is the only user.
// Its methods may be called concurrently.
type Storage struct {
	root   *os.Root
	lock   *os.File
	logger *slog.Logger

	mu      sync.Mutex
	tenants map[string]*Tenant
	ledgers map[string]*Ledger
}

// Open takes possession of the directory, creating it if need be. Content that
// is not this program's is left alone. An error means that nothing can be kept
// there: the directory is a file, cannot be written or belongs to another
// running exporter. The exporter can do its work without, and should say so.
func Open(dir string, logger *slog.Logger) (*Storage, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create storage directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open storage directory: %w", err)
	}
	lock, err := root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write to storage directory %s: %w", dir, err), root.Close())
	}
	if err := lockExclusively(lock); err != nil {
		return nil, errors.Join(fmt.Errorf("lock storage directory %s: %w", dir, err), lock.Close(), root.Close())
	}
	s := &Storage{root: root, lock: lock, logger: logger, tenants: make(map[string]*Tenant), ledgers: make(map[string]*Ledger)}
	s.removeHalfWritten()
	return s, nil
}

// ErrInUse is in the chain of Open's error when another process has the
// directory open.
var ErrInUse = errors.New("in use by another process")

// Close gives the directory free. What is saved later is refused with an error
// that wraps [os.ErrClosed].
func (s *Storage) Close() error {
	return errors.Join(s.root.Close(), s.lock.Close())
}

// Tenant returns the part of the storage that belongs to one tenant, always the
// same for the same name. Any name will do.
func (s *Storage) Tenant(name string) *Tenant {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := s.tenants[name]; ok {
		return t
	}
	dir := directory{root: s.root, logger: s.logger.With("tenant", name)}
	t := &Tenant{journal: journal{dir: dir, file: fileName(name) + ".values", tenant: name}}
	s.tenants[name] = t
	return t
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

// directory is where one tenant's files are.
type directory struct {
	root   *os.Root
	logger *slog.Logger
}

// setAside renames a file that cannot be used, so that another can take its
// place and a person can look at it.
func (d directory) setAside(file string, why error) error {
	aside := file + ".set-aside-" + time.Now().UTC().Format("20060102T150405.000000000Z")
	if err := d.root.Rename(file, aside); err != nil {
		return fmt.Errorf("set aside %s, which is unusable (%w): %w", file, why, err)
	}
	d.logger.Warn("Set aside a storage file: what it held is forgotten", "file", file, "renamed", aside, "err", why)
	return nil
}

// openExisting opens a file for reading. A file that is not there is
// [fs.ErrNotExist]; one that can never be read is set aside and then not there.
func (d directory) openExisting(file string) (*os.File, fs.FileInfo, error) {
	info, err := d.root.Lstat(file)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, d.gone(file, errors.New("not a regular file"))
	}
	f, err := d.root.Open(file)
	if errors.Is(err, fs.ErrPermission) {
		return nil, nil, d.gone(file, err)
	}
	if err != nil {
		return nil, nil, err
	}
	return f, info, nil
}

// gone sets a file aside and returns that it is not there any more.
func (d directory) gone(file string, why error) error {
	if err := d.setAside(file, why); err != nil {
		return err
	}
	return fs.ErrNotExist
}
