package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one mistake in a configuration: where it is and what is wrong. Its
// text never holds a secret.
type Problem struct {
	// File is the path of the file that holds the mistake, as it was named;
	// empty where the mistake is in a flag or in the environment.
	File string
	// Line counts from 1; 0 means the file as a whole.
	Line int
	// Key is the path of the key, such as "tenants[0].azuread.oauth.client_id",
	// or the name of a flag or of an environment variable. It may be empty.
	Key     string
	Message string
}

// String is the problem in one line: "mde.yml:12: tenants[0].name: missing".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.File != "" && p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	for _, part := range []string{p.Key, p.Message} {
		if part != "" {
			if b.Len() > 0 {
				b.WriteString(": ")
			}
			b.WriteString(part)
		}
	}
	return b.String()
}

// Problems are all mistakes of a configuration, in the order of its lines. As
// an error it is one line for each.
type Problems []Problem

// Error is one line for each mistake.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// err returns the problems as an error, which is nil where there are none.
func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// sorted brings the problems of each file into the order of its lines, those of
// the configuration file first; other files keep the order in which they came.
func (ps Problems) sorted(file string) Problems {
	order := map[string]int{file: 0}
	for _, p := range ps {
		if _, known := order[p.File]; !known {
			order[p.File] = len(order)
		}
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(order[a.File], order[b.File]), cmp.Compare(a.Line, b.Line))
	})
	return ps
}

// excerpt quotes what an operator wrote, short enough for one line of a log.
func excerpt(s string) string {
	const limit = 80
	if len(s) > limit {
		return fmt.Sprintf("%q…", strings.ToValidUTF8(s[:limit], ""))
	}
	return fmt.Sprintf("%q", s)
}
