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

// Files lists the files of a pattern. A wildcard takes no hidden files and no
// directories: editors and Kubernetes keep such beside the ones that are meant.
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

// Pattern makes a pattern of the configuration absolute. The directory is taken
// literally, whatever characters it holds. On Windows a pattern that begins with a
// separator is on the directory's drive. The error says what is wrong with the pattern
// itself; it does not repeat line breaks, which are those of a file's content.
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

// patternSyntax is how patterns of file names are written, as filepath.Match reads
// them: a backslash makes the next character literal, except on Windows, where it
// separates names. There only [ needs to be made literal, by [[].
type patternSyntax struct{ windows bool }

var patterns = patternSyntax{windows: filepath.Separator == '\\'}

// literal is a pattern that matches the name alone.
func (s patternSyntax) literal(name string) string {
	if s.windows {
		return strings.ReplaceAll(name, "[", "[[]")
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}

// name is the one name that a pattern matches. A pattern with a wildcard can match
// more, and ok is false.
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
