package config

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/mde-exporter/mde_exporter/internal/readfile"
)

// File is a configuration file with the files of tenants that it includes. Its
// methods may be called concurrently.
type File struct {
	Path      string
	Overrides Overrides

	mu   sync.Mutex
	last *inputs // Of the last Load, nil before the first.
}

// Load is the function Load of the file.
func (f *File) Load() (*Config, error) {
	v := newValidator(f.Overrides)
	c, problems := load(f.Path, v)
	f.mu.Lock()
	f.last = v.inputs
	f.mu.Unlock()
	if len(problems) > 0 {
		return nil, problems.sorted(f.Path)
	}
	return c, nil
}

// Changed reports whether Load would read something else than it did the last time,
// whether that succeeded or not: another content of the file or of a file that it
// includes, another set of included files, or another certificate of a tls_config. It
// compares contents, so it sees the swapped links of a Kubernetes ConfigMap, too. It
// is false before the first Load, and when ctx ends.
func (f *File) Changed(ctx context.Context) bool {
	f.mu.Lock()
	last := f.last
	f.mu.Unlock()
	if last == nil {
		return false
	}
	now := newInputs()
	for pattern := range last.patterns {
		_, _ = now.list(ctx, pattern)
	}
	now.readAll(ctx, slices.Collect(maps.Keys(last.files)))
	return ctx.Err() == nil && !reflect.DeepEqual(last, now)
}

// inputs are what a load read, as values to compare: a digest or the error of each
// file, and the names or the error of each pattern.
type inputs struct{ files, patterns map[string]string }

func newInputs() *inputs {
	return &inputs{files: make(map[string]string), patterns: make(map[string]string)}
}

// text is what a file holds, or why it cannot be read.
type text struct {
	data []byte
	err  error
}

// read returns the text of a file.
func (i *inputs) read(path string) ([]byte, error) {
	t := i.readAll(context.Background(), []string{path})[0]
	return t.data, t.err
}

// readAll returns the texts of files. It reads them at the same time: several that
// hang take no longer than one, and keep no other from being read.
func (i *inputs) readAll(ctx context.Context, paths []string) []text {
	texts := make([]text, len(paths))
	var wg sync.WaitGroup
	for n, path := range paths {
		wg.Go(func() { texts[n].data, texts[n].err = readfile.Text(ctx, path, maxConfigBytes) })
	}
	wg.Wait()
	for n, path := range paths {
		i.files[path] = fmt.Sprintf("%x %v", sha256.Sum256(texts[n].data), texts[n].err)
	}
	return texts
}

// list returns the files of a pattern.
func (i *inputs) list(ctx context.Context, pattern string) ([]string, error) {
	names, err := readfile.Files(ctx, pattern)
	i.patterns[pattern] = fmt.Sprintf("%q %v", names, err)
	return names, err
}

// include reads the files of the patterns, each once, adds the tenant that each of
// them holds, and returns the documents. Paths in a file are relative to that file.
func (v *validator) include(at position, patterns []string, add func(position, *yaml.Node)) (included []*document) {
	var paths []string
	// Where each path is named. A pattern does not take the configuration file itself.
	named := map[string]position{filepath.Join(v.dir, filepath.Base(at.doc.file)): at}
	for i, pattern := range patterns {
		at := at.index(i)
		pattern, err := readfile.Pattern(v.dir, pattern)
		if err != nil {
			at.problem("%s", err)
			continue
		}
		matches, err := v.inputs.list(context.Background(), pattern)
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
	dir := v.dir
	defer func() { v.dir = dir }()
	for i, file := range v.inputs.readAll(context.Background(), paths) {
		if file.err != nil {
			at := named[paths[i]]
			at.problemAt(at.line(), "%s: %s", paths[i], readfile.Reason(file.err))
			continue
		}
		d := &document{file: paths[i]}
		included = append(included, d)
		v.dir = filepath.Dir(paths[i])
		switch root := d.parse(file.data, reflect.TypeFor[tenantSection]()); {
		case root == nil:
		case len(root.Content) == 0 && len(d.problems) == 0:
			position{doc: d}.problem("empty: it must hold the keys of one tenant")
		default:
			add(position{doc: d}, root)
		}
	}
	return included
}
