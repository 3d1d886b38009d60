//go:build unix

package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mde-exporter/mde_exporter/collector/domains"
	"github.com/mde-exporter/mde_exporter/config"
)

func TestConfigurationFileLimits(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct {
		make func(path string) error
		want string
	}{
		"a named pipe without a writer": {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "a named pipe, not a regular file"},
		"a device":                      {func(path string) error { return os.Symlink("/dev/zero", path) }, "not a regular file"},
		"a file that is too large": {func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 16<<20+1))
		}, "larger than 16 MiB"},
		"UTF-16 from Windows PowerShell": {func(path string) error { return os.WriteFile(path, []byte("\xff\xfet\x00"), 0o600) }, "encoded as UTF-16: save it as UTF-8"},
	} {
		path := filepath.Join(dir, name)
		if err := test.make(path); err != nil {
			t.Fatal(err)
		}
		_, err := config.Load(path, config.Overrides{})
		for _, err := range []error{err, mistakes(path)} {
			if err == nil || err.Error() != path+": "+test.want {
				t.Errorf("%s: got %v, want %s", name, err, test.want)
			}
		}
	}
	path := filepath.Join(dir, "mde.yml")
	if err := os.WriteFile(path, []byte("\ufeff"+oneTenant), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path, config.Overrides{}); err != nil {
		t.Errorf("with a byte-order mark: %v", err)
	}
}

func TestWatchListMistakesHaveTheirOwnLine(t *testing.T) {
	path := write(t, map[string]string{
		"mde.yml":       oneTenant + "  watched_domains:\n    files:\n    - lists/*.txt\n    - none.txt\n    - lists\n    - '[.txt'\n    - pipe\n",
		"lists/one.txt": "# a comment\nhttps://a.example/\nok.example\n*.a.example\n",
		"lists/two.txt": "ok.example\nbad\xff.example\nnever.example\n",
		"lists/utf.txt": "\xff\xfea\x00.\x00b\x00\n",
	})
	dir := filepath.Dir(path)
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := config.Check(path, config.Overrides{})
	want := []string{
		"mde.yml:6: tenants[0].watched_domains.files[0]: lists/utf.txt: encoded as UTF-16: save it as UTF-8",
		"mde.yml:7: tenants[0].watched_domains.files[1]: none.txt: no such file or directory",
		"mde.yml:8: tenants[0].watched_domains.files[2]: lists: a directory, not a regular file",
		"mde.yml:9: tenants[0].watched_domains.files[3]: [.txt: not a valid pattern of file names",
		"mde.yml:10: tenants[0].watched_domains.files[4]: pipe: a named pipe, not a regular file",
		`lists/one.txt:2: is a URL: only its domain can be watched`,
		`lists/one.txt:4: contains a wildcard: list each domain`,
		"lists/two.txt:2: not UTF-8 text",
	}
	if diff := cmp.Diff(want, lines(err, dir)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestLastValidListIsKept(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "list.txt")
	patterns := []string{path, filepath.Join(dir, "more/*.txt")}
	var lists domains.Lists
	for _, step := range []struct {
		name     string
		do       func() error
		domains  []string
		mistakes []string
		old      bool
	}{
		{"start without the file", func() error { return nil }, nil, []string{"list.txt: no such file or directory"}, false},
		{
			"file with a mistake, no valid list before", func() error { return os.WriteFile(path, []byte("a.example\n*\n"), 0o600) },
			[]string{"a.example"}, []string{"list.txt:2: contains a wildcard: list each domain"}, false,
		},
		{"mistake fixed", func() error { return os.WriteFile(path, []byte("b.example\n"), 0o600) }, []string{"b.example"}, nil, false},
		{
			"new domain and a mistake", func() error { return os.WriteFile(path, []byte("c.example\n*\n"), 0o600) },
			[]string{"b.example"}, []string{"list.txt:2: contains a wildcard: list each domain"}, true,
		},
		{"file removed", func() error { return os.Remove(path) }, []string{"b.example"}, []string{"list.txt: no such file or directory"}, true},
		{"replaced by a named pipe", func() error { return syscall.Mkfifo(path, 0o600) }, []string{"b.example"}, []string{"list.txt: a named pipe, not a regular file"}, true},
		{
			"UTF-16 from Windows PowerShell", func() error {
				return errors.Join(os.Remove(path), os.WriteFile(path, []byte("\xff\xfec\x00"), 0o600))
			},
			[]string{"b.example"}, []string{"list.txt: encoded as UTF-16: save it as UTF-8"}, true,
		},
		{"valid file", func() error { return os.WriteFile(path, []byte("d.example\n"), 0o600) }, []string{"d.example"}, nil, false},
		{
			"unreadable directory of a pattern", func() error { return os.Symlink("more", filepath.Join(dir, "more")) },
			[]string{"d.example"}, []string{"more/*.txt: too many levels of symbolic links"}, true,
		},
		{"directory removed", func() error { return os.Remove(filepath.Join(dir, "more")) }, []string{"d.example"}, nil, false},
		{"empty file", func() error { return os.WriteFile(path, nil, 0o600) }, nil, nil, false},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		lists.Read(t.Context(), patterns)
		list := lists.List(patterns)
		if !slices.Equal(list.Domains, step.domains) || list.Old != step.old || !slices.Equal(lines(asError(list.Mistakes), dir), step.mistakes) {
			t.Errorf("%s: domains %v, old %t, mistakes %v", step.name, list.Domains, list.Old, list.Mistakes)
		}
	}
}
