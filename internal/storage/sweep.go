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

// valuesRetention is how long the values of a removed tenant are kept after they
// were last written.
const valuesRetention = 24 * time.Hour

// storedFile matches the names of files with values and spent calls. temporary
// matches the names of files that are being written, before they are renamed.
var (
	storedFile = regexp.MustCompile(`^[a-z0-9_-]+-[0-9a-f]{16}\.(values|spent(-[a-z0-9_]+)?)$`)
	temporary  = regexp.MustCompile(`^\.[a-z0-9_-]+-[0-9a-f]{16}\.(values|spent(-[a-z0-9_]+)?)-?[0-9]+$`)
)

// Sweep drops all tenants and ledgers that are not named; they must no longer be
// used. It removes their files when these have expired: values a day after they
// were last written, spent calls when no limit counts them any more. It keeps
// files that were set aside and other programs' files.
func (s *Storage) Sweep(tenants, owners []string) {
	inUse := make(map[string]bool)
	s.mu.Lock()
	defer s.mu.Unlock()
	retain(s.tenants, tenants, ".values", inUse)
	retain(s.ledgers, owners, "", inUse)
	used := func(name string) bool {
		stem, _, _ := strings.Cut(name, ".spent")
		return inUse[stem]
	}
	s.values.dropUnused(used)
	s.calls.dropUnused(used)
	root, err := s.directory()
	if err != nil {
		return
	}
	removed := 0
	var failed error
	s.eachFile(root, storedFile, func(entry fs.DirEntry) {
		name, age, header := entry.Name(), valuesRetention, valuesFormat+strconv.Itoa(valuesVersion)+" "
		if strings.Contains(name, ".spent") {
			age, header = spentRetention, spentFormat
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

// retain deletes all elements that are not named, and marks the files of the
// others as in use.
func retain[T any](elements map[string]T, names []string, suffix string, inUse map[string]bool) {
	for _, name := range names {
		inUse[fileName(name)+suffix] = true
	}
	maps.DeleteFunc(elements, func(name string, _ T) bool { return !inUse[fileName(name)+suffix] })
}

// removeTemporary removes partly written files of a process that was killed.
func (s *Storage) removeTemporary() {
	s.eachFile(s.root, temporary, func(entry fs.DirEntry) {
		if err := s.root.Remove(entry.Name()); err != nil {
			s.logger.Warn("Removing half-written storage file failed", "file", entry.Name(), "err", err)
		}
	})
}

// eachFile calls f for every regular file whose name matches.
func (s *Storage) eachFile(root *os.Root, pattern *regexp.Regexp, f func(fs.DirEntry)) {
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
