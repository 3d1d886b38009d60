package config

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"reflect"
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
	for path := range last.files {
		_, _ = now.read(ctx, path)
	}
	for pattern := range last.patterns {
		_, _ = now.list(ctx, pattern)
	}
	return ctx.Err() == nil && !reflect.DeepEqual(last, now)
}

// inputs are what a load read, as values to compare: a digest or the error of each
// file, and the names or the error of each pattern.
type inputs struct{ files, patterns map[string]string }

func newInputs() *inputs {
	return &inputs{files: make(map[string]string), patterns: make(map[string]string)}
}

// read returns the text of a file.
func (i *inputs) read(ctx context.Context, path string) ([]byte, error) {
	data, err := readfile.Text(ctx, path, maxConfigBytes)
	i.files[path] = fmt.Sprintf("%x %v", sha256.Sum256(data), err)
	return data, err
}

// list returns the files of a pattern.
func (i *inputs) list(ctx context.Context, pattern string) ([]string, error) {
	names, err := readfile.Files(ctx, pattern)
	i.patterns[pattern] = fmt.Sprintf("%q %v", names, err)
	return names, err
}

// includeTimeout bounds how long all included files together take to read.
const includeTimeout = 2 * readfile.Timeout

// include reads the files of the patterns, each once, adds the tenant that each of
// them holds, and returns the documents. Paths in a file are relative to that file.
func (v *validator) include(at position, patterns []string, add func(position, *yaml.Node)) (included []*document) {
	ctx, cancel := context.WithTimeout(context.Background(), includeTimeout)
	defer cancel()
	dir := v.dir
	defer func() { v.dir = dir }()
	read := map[string]bool{}
	for i, pattern := range patterns {
		at := at.index(i)
		if pattern == "" {
			at.problem("an empty name")
			continue
		}
		v.dir = dir
		pattern := readfile.AbsolutePattern(dir, pattern)
		if err := readfile.CheckPattern(pattern); err != nil {
			at.problem("%s: %s", pattern, err)
			continue
		}
		paths, err := v.inputs.list(ctx, pattern)
		if err != nil {
			at.problem("%s: %s", pattern, readfile.Reason(err))
		}
		for _, path := range paths {
			if read[path] {
				continue
			}
			read[path] = true
			data, err := v.inputs.read(ctx, path)
			if err != nil {
				at.problem("%s: %s", path, readfile.Reason(err))
				continue
			}
			d := &document{file: path}
			included = append(included, d)
			v.dir = filepath.Dir(path)
			switch root := d.parse(data, reflect.TypeFor[tenantSection]()); {
			case root == nil:
			case root.Kind == yaml.MappingNode && len(root.Content) == 0 && len(d.problems) == 0:
				position{doc: d}.problem("empty: it must hold the keys of one tenant")
			default:
				add(position{doc: d}, root)
			}
		}
	}
	return included
}
