package storage

import (
	"errors"
	"io"
	"io/fs"
	"regexp"
	"time"
)

// valuesFor is how long the values of a tenant are kept after they were last
// written, once the tenant is not configured any more.
const valuesFor = 24 * time.Hour

// kept matches the names of values and of spent calls.
var kept = regexp.MustCompile(`^([a-z0-9_-]+-[0-9a-f]{16})\.(values|spent-[a-z0-9_]+)$`)

// temporary matches the names under which whole files are written before they
// are renamed.
var temporary = regexp.MustCompile(`^\.[a-z0-9_-]+-[0-9a-f]{16}\.(values|spent-[a-z0-9_]+)-?[0-9]+$`)

// Sweep forgets every tenant and every ledger but those named, which must not be
// used any more. It removes their files once these are of no interest: values a
// day after they were last written, spent calls when no limit reaches them any
// more. Files that were set aside, and files that are not this program's, stay.
func (s *Storage) Sweep(tenants, owners []string) {
	inUse := make(map[string]bool, len(tenants)+len(owners))
	s.mu.Lock()
	defer s.mu.Unlock()
	keep(s.tenants, tenants, ".values", inUse)
	keep(s.ledgers, owners, ".spent", inUse)

	removed := 0
	s.each(kept, func(entry fs.DirEntry) {
		name := entry.Name()
		parts := kept.FindStringSubmatch(name)
		suffix, age, header := ".values", valuesFor, journalVersionLine
		if parts[2] != "values" {
			suffix, age, header = ".spent", spentFor, spentHeader
		}
		if inUse[parts[1]+suffix] {
			return
		}
		info, err := entry.Info()
		if err != nil || time.Since(info.ModTime()) < age || !s.beginsWith(name, header) {
			return
		}
		if err := s.root.Remove(name); err != nil {
			s.logger.Warn("Storage file that is not used any more cannot be removed", "file", name, "err", err)
			return
		}
		removed++
	})
	if removed > 0 {
		s.logger.Info("Removed storage files of tenants and quotas that are not configured any more", "files", removed)
	}
}

// keep deletes all but the named elements, and marks their files as in use.
func keep[T any](elements map[string]T, names []string, suffix string, inUse map[string]bool) {
	named := make(map[string]bool, len(names))
	for _, name := range names {
		named[name] = true
		inUse[fileName(name)+suffix] = true
	}
	for name := range elements {
		if !named[name] {
			delete(elements, name)
		}
	}
}

// beginsWith reports whether a file begins with the text.
func (s *Storage) beginsWith(name, text string) bool {
	f, err := s.root.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	start := make([]byte, len(text))
	_, err = io.ReadFull(f, start)
	return err == nil && string(start) == text
}

// removeHalfWritten removes what a process that was killed left half-written.
func (s *Storage) removeHalfWritten() {
	s.each(temporary, func(entry fs.DirEntry) {
		if err := s.root.Remove(entry.Name()); err != nil {
			s.logger.Warn("Half-written storage file cannot be removed", "file", entry.Name(), "err", err)
		}
	})
}

// each calls f for every regular file whose name matches.
func (s *Storage) each(pattern *regexp.Regexp, f func(fs.DirEntry)) {
	entries, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil && !errors.Is(err, fs.ErrClosed) {
		s.logger.Warn("Storage directory cannot be listed", "err", err)
	}
	for _, entry := range entries {
		if pattern.MatchString(entry.Name()) && entry.Type().IsRegular() {
			f(entry)
		}
	}
}
