package readfile

import "testing"

func TestPatternWithoutWildcardIsFileName(t *testing.T) {
	for _, tc := range []struct {
		windows  bool
		pattern  string
		name     string
		wildcard bool
	}{
		{pattern: "/lists/a.txt", name: "/lists/a.txt"},
		{pattern: "/lists/*.txt", wildcard: true},
		{pattern: "/lists/?.txt", wildcard: true},
		{pattern: "/lists/[ab].txt", wildcard: true},
		{pattern: `/lists/\*.txt`, name: "/lists/*.txt"},
		{pattern: `/a\\b/c.txt`, name: `/a\b/c.txt`},
		{pattern: `/a\\*/c.txt`, wildcard: true},
		{pattern: `ends with\`, name: `ends with\`},
		{windows: true, pattern: `C:\lists\a.txt`, name: `C:\lists\a.txt`},
		{windows: true, pattern: `C:\lists\*.txt`, wildcard: true},
		{windows: true, pattern: `C:\lists\?.txt`, wildcard: true},
		{windows: true, pattern: `C:\lists\[ab].txt`, wildcard: true},
		{windows: true, pattern: `C:/lists/a.txt`, name: `C:/lists/a.txt`},
		{windows: true, pattern: `\\server\share\a.txt`, name: `\\server\share\a.txt`},
		{windows: true, pattern: `C:\[[]old]\a.txt`, name: `C:\[old]\a.txt`},
		{windows: true, pattern: `C:\[[]old]\*.txt`, wildcard: true},
	} {
		name, ok := patternSyntax{tc.windows}.name(tc.pattern)
		if ok == tc.wildcard || ok && name != tc.name {
			t.Errorf("windows %v, %s: %q, %v; want %q, %v", tc.windows, tc.pattern, name, ok, tc.name, !tc.wildcard)
		}
	}
}

func TestDirectoryNameIsEscaped(t *testing.T) {
	for _, windows := range []bool{false, true} {
		s := patternSyntax{windows}
		for _, name := range []string{`/plain`, `/we[i]rd`, `/[`, `/a\b`, `C:\we[i]rd`, `/st*r`, `/wh?`} {
			if windows && (name == `/st*r` || name == `/wh?`) {
				continue // Invalid on Windows.
			}
			if got, ok := s.name(s.literal(name)); !ok || got != name {
				t.Errorf("windows %v: %s is escaped as %s and read as %q, %v", windows, name, s.literal(name), got, ok)
			}
		}
	}
}
