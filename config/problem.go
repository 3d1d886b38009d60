package config

import (
	"cmp"
	"slices"
	"strings"

	"github.com/mde-exporter/mde_exporter/collector"
)

// Problem is one mistake in a configuration. Its text never holds a secret.
type Problem = collector.Mistake

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
