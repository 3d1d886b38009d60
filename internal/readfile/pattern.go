package readfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
)

// Files returns the files that match a pattern. A wildcard skips hidden files and
// directories, because editors and Kubernetes create such next to the real files.
func Files(ctx context.Context, pattern string) ([]string, error) {
	if name, ok := patterns.name(pattern); ok {
		return []string{name}, nil
	}
	matches, err := Glob(ctx, pattern)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(filepath.Base(pattern), ".") {
		return matches, nil
	}
	return slices.DeleteFunc(matches, func(path string) bool { return strings.HasPrefix(filepath.Base(path), ".") }), nil
}

// Pattern returns the absolute form of a pattern from the configuration, relative
// to dir, which may contain any characters. On Windows a pattern with a leading
// separator is on dir's drive. It returns an error for an invalid pattern. The
// error never contains line breaks: these would mean that the value is a file's
// content.
func Pattern(dir, pattern string) (string, error) {
	switch {
	case pattern == "":
		return "", errors.New("an empty name")
	case strings.ContainsFunc(pattern, unicode.IsControl):
		return "", errors.New("must be the path of a file, without line breaks or control characters")
	case filepath.IsAbs(pattern):
	case os.IsPathSeparator(pattern[0]):
		pattern = filepath.VolumeName(dir) + pattern
	default:
		pattern = filepath.Join(patterns.literal(dir), pattern)
	}
	if _, err := filepath.Match(pattern, ""); err != nil {
		return "", fmt.Errorf("%s: not a valid pattern of file names", pattern)
	}
	return pattern, nil
}

// patternSyntax is the syntax of filepath.Match. A backslash escapes the next
// character, except on Windows, where it is a separator. There only [ needs to be
// escaped, as [[].
type patternSyntax struct{ windows bool }

var patterns = patternSyntax{windows: filepath.Separator == '\\'}

// literal returns a pattern that matches only the name.
func (s patternSyntax) literal(name string) string {
	if s.windows {
		return strings.ReplaceAll(name, "[", "[[]")
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}

// name returns the only name that a pattern matches. It returns false for a
// pattern with a wildcard.
func (s patternSyntax) name(pattern string) (name string, ok bool) {
	if s.windows {
		name = strings.ReplaceAll(pattern, "[[]", "[")
		return name, !strings.ContainsAny(strings.ReplaceAll(pattern, "[[]", ""), "*?[")
	}
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch {
		case pattern[i] == '\\' && i+1 < len(pattern):
			i++
		case strings.IndexByte("*?[", pattern[i]) >= 0:
			return "", false
		}
		b.WriteByte(pattern[i])
	}
	return b.String(), true
}
