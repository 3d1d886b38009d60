package storage

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// valuesFor is how long the values of a tenant are kept after they were last
// written, once the tenant is not configured any more.
const valuesFor = 24 * time.Hour

// kept matches the names of values and of spent calls, and temporary those under
// which whole files are written before they are renamed.
var (
	kept      = regexp.MustCompile(`^[a-z0-9_-]+-[0-9a-f]{16}\.(values|spent(-[a-z0-9_]+)?)$`)
	temporary = regexp.MustCompile(`^\.[a-z0-9_-]+-[0-9a-f]{16}\.(values|spent(-[a-z0-9_]+)?)-?[0-9]+$`)
)

// Sweep forgets every tenant and every ledger but those named, which must not be
// used any more. It removes their files once these are of no interest: values a
// day after they were last written, spent calls when no limit reaches them any
// more. Files that were set aside, and files that are not this program's, stay.
func (s *Storage) Sweep(tenants, owners []string) {
	inUse := make(map[string]bool, len(tenants)+len(owners))
	s.mu.Lock()
	defer s.mu.Unlock()
	keep(s.tenants, tenants, ".values", inUse)
	keep(s.ledgers, owners, "", inUse)
	used := func(name string) bool {
		stem, _, _ := strings.Cut(name, ".spent")
		return inUse[stem]
	}
	s.values.forget(used)
	s.calls.forget(used)
	root, err := s.directory()
	if err != nil {
		return
	}
	removed := 0
	var failed error
	s.each(root, kept, func(entry fs.DirEntry) {
		name, age, header := entry.Name(), valuesFor, valuesFormat+strconv.Itoa(valuesVersion)+" "
		if strings.Contains(name, ".spent") {
			age, header = spentFor, spentFormat
		}
		info, err := entry.Info()
		if used(name) || err != nil || time.Since(info.ModTime()) < age {
			return
		}
		content, err := root.ReadFile(name)
		if err != nil || !bytes.HasPrefix(content, []byte(header)) {
			return
		}
		if err := root.Remove(name); err != nil {
			failed = err
			return
		}
		removed++
	})
	if failed != nil {
		s.logger.Warn("Removing unused storage files failed", "err", failed)
	}
	if removed > 0 {
		s.logger.Info("Removed storage files of tenants and quotas that are no longer configured", "files", removed)
	}
}

// keep deletes all but the named elements, and marks their files as in use.
func keep[T any](elements map[string]T, names []string, suffix string, inUse map[string]bool) {
	for _, name := range names {
		inUse[fileName(name)+suffix] = true
	}
	maps.DeleteFunc(elements, func(name string, _ T) bool { return !inUse[fileName(name)+suffix] })
}

// removeHalfWritten removes what a process that was killed left half-written.
func (s *Storage) removeHalfWritten() {
	s.each(s.root, temporary, func(entry fs.DirEntry) {
		if err := s.root.Remove(entry.Name()); err != nil {
			s.logger.Warn("Removing half-written storage file failed", "file", entry.Name(), "err", err)
		}
	})
}

// each calls f for every regular file whose name matches.
func (s *Storage) each(root *os.Root, pattern *regexp.Regexp, f func(fs.DirEntry)) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil && !errors.Is(err, fs.ErrClosed) {
		s.logger.Warn("Listing storage directory failed", "err", err)
	}
	for _, entry := range entries {
		if pattern.MatchString(entry.Name()) && entry.Type().IsRegular() {
			f(entry)
		}
	}
}
