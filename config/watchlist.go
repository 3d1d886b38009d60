package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxListBytes bounds a watch-list file: half a million domains fit, a disk
// image that a wildcard happens to match does not.
const maxListBytes = 16 << 20

// Read returns the domains to watch, those of the configuration and those of
// its files as they are now, sorted and each of them once. Every line that is
// no domain and every file that cannot be read is a problem; the domains are
// then all the others.
func (w WatchedDomains) Read() ([]string, Problems) {
	domains := slices.Clone(w.Domains)
	var problems Problems
	for _, pattern := range w.Files {
		found, mistakes := readLists(pattern)
		domains = append(domains, found...)
		problems = append(problems, mistakes...)
	}
	slices.Sort(domains)
	return slices.Compact(domains), problems
}

// Digest tells one state of the files from another: it changes when a file
// comes, goes or holds something else, however it was replaced. It is empty
// without files. Reading them is cheap enough to do so every few seconds.
func (w WatchedDomains) Digest() string {
	if len(w.Files) == 0 {
		return ""
	}
	sum := sha256.New()
	for _, pattern := range w.Files {
		paths, err := expand(pattern)
		fmt.Fprintf(sum, "%q %v\n", pattern, err)
		for _, path := range paths {
			data, err := readList(path)
			fmt.Fprintf(sum, "%q %v %d\n", path, err, len(data))
			sum.Write(data)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// readLists reads the files of one pattern. A problem without a line is one of
// the pattern or of a file as a whole.
func readLists(pattern string) (domains []string, problems Problems) {
	paths, err := expand(pattern)
	if err != nil {
		return nil, Problems{{File: pattern, Message: err.Error()}}
	}
	for _, path := range paths {
		data, err := readList(path)
		if err != nil {
			problems = append(problems, Problem{File: path, Message: reason(err)})
			continue
		}
		found, mistakes := parseList(path, data)
		domains = append(domains, found...)
		problems = append(problems, mistakes...)
	}
	return domains, problems
}

// expand lists the files of a pattern. A wildcard takes no hidden files and no
// directories: editors and Kubernetes keep such beside the ones that are meant.
func expand(pattern string) ([]string, error) {
	if !hasWildcard(pattern) {
		return []string{unescape(pattern)}, nil
	}
	matches, err := filepath.Glob(pattern)
	if err != nil {
		return nil, errors.New("not a valid pattern of file names")
	}
	hidden := strings.HasPrefix(filepath.Base(pattern), ".")
	return slices.DeleteFunc(matches, func(path string) bool {
		if !hidden && strings.HasPrefix(filepath.Base(path), ".") {
			return true
		}
		info, err := os.Stat(path)
		return err == nil && info.IsDir()
	}), nil
}

// readList returns the content of a file, which must be a regular one: reading
// a pipe might never end.
func readList(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path) // #nosec G304 -- the operator names the file
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxListBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxListBytes {
		return nil, fmt.Errorf("larger than %d MiB", maxListBytes>>20)
	}
	return data, nil
}

// parseList reads a watch list: a domain a line, with blank lines and comments
// from # to the end of the line.
func parseList(path string, data []byte) (domains []string, problems Problems) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	number := 0
	for line := range bytes.Lines(data) {
		number++
		if !utf8.Valid(line) || bytes.IndexByte(line, 0) >= 0 {
			return domains, append(problems, Problem{File: path, Line: number, Message: "not UTF-8 text"})
		}
		name, _, _ := strings.Cut(string(line), "#")
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		domain, err := parseDomain(name)
		if err != nil {
			problems = append(problems, Problem{File: path, Line: number, Message: err.Error()})
			continue
		}
		domains = append(domains, domain)
	}
	return domains, problems
}

// absolutePattern makes a path of the configuration absolute. The directory is taken
// literally, whatever characters it holds.
func absolutePattern(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(escape.Replace(dir), path)
}

var escape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// hasWildcard tells whether a pattern can match more than one name.
func hasWildcard(pattern string) bool {
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

// unescape is the one name that a pattern without wildcards matches.
func unescape(pattern string) string {
	var name strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] == '\\' && i+1 < len(pattern) {
			i++
		}
		name.WriteByte(pattern[i])
	}
	return name.String()
}

// reason is what went wrong with a file, without the path that the message
// already begins with.
func reason(err error) string {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}
