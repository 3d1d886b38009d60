package config

import (
	"cmp"
	"slices"
	"strings"

	"github.com/mde-exporter/mde_exporter/collector"
)

// Problem is one mistake in a configuration. Its text never contains a secret.
type Problem = collector.Mistake

// Problems are the mistakes of a configuration, sorted by line.
type Problems []Problem

// Error returns one line for each mistake.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// err returns the problems as an error, nil if there are none.
func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// sorted sorts the problems of each file by line. Those of the configuration file come
// first; other files keep their order.
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
