package config

import (
	"context"
	"path/filepath"
	"reflect"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/mde-exporter/mde_exporter/internal/readfile"
)

// include reads each file that matches the patterns, calls add with the tenant in it,
// and returns the documents. Paths in a file are relative to that file.
func (v *validator) include(at position, patterns []string, add func(position, *yaml.Node)) (included []*document) {
	var paths []string
	// The pattern of each path. The configuration file itself never matches.
	named := map[string]position{filepath.Join(v.dir, filepath.Base(at.doc.file)): at}
	for i, pattern := range patterns {
		at := at.index(i)
		pattern, err := readfile.Pattern(v.dir, pattern)
		if err != nil {
			at.problem("%s", err)
			continue
		}
		matches, err := readfile.Files(context.Background(), pattern)
		if err != nil {
			at.problem("%s: %s", pattern, readfile.Reason(err))
		}
		for _, path := range matches {
			if _, twice := named[path]; !twice {
				named[path] = at
				paths = append(paths, path)
			}
		}
	}
	// Files are read concurrently: several that hang take no longer than one.
	texts, errs := make([][]byte, len(paths)), make([]error, len(paths))
	var wg sync.WaitGroup
	for i, path := range paths {
		wg.Go(func() { texts[i], errs[i] = readfile.Text(context.Background(), path, maxConfigBytes) })
	}
	wg.Wait()
	dir := v.dir
	defer func() { v.dir = dir }()
	for i, err := range errs {
		if err != nil {
			at := named[paths[i]]
			at.problemAt(at.line(), "%s: %s", paths[i], readfile.Reason(err))
			continue
		}
		d := &document{file: paths[i]}
		included = append(included, d)
		v.dir = filepath.Dir(paths[i])
		switch root := d.parse(texts[i], reflect.TypeFor[tenantSection]()); {
		case root == nil:
		case len(root.Content) == 0 && len(d.problems) == 0:
			position{doc: d}.problem("empty: it must contain the keys of one tenant")
		default:
			add(position{doc: d}, root)
		}
	}
	return included
}
