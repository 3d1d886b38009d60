package config_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mde-exporter/mde_exporter/collector/domains"
	"github.com/mde-exporter/mde_exporter/config"
)

const oneTenant = "tenants:\n- name: a\n  azuread: {oauth: " + oauth + "}\n"

func TestWatchListsAreReadAndMerged(t *testing.T) {
	path := write(t, map[string]string{
		"mde.yml": "global: {watched_domains: {domains: [inline.example], files: [shared.txt]}}\n" + oneTenant +
			"  watched_domains:\n    domains: [b.example]\n    files: ['lists/*.txt', 'none/*.txt', shared.txt]\n",
		"shared.txt":        "\ufeff# shared with everyone\r\n\r\nShared.example.  # why\r\nb.example\r\n",
		"lists/one.txt":     "b.example\nc.example",
		"lists/two.txt":     "",
		"lists/.hidden.txt": "hidden.example\n",
		"lists/notes.md":    "# not a list\nno domain\n",
		"lists/sub.txt/x":   "below.example\n",
	})
	c, err := config.Load(path, config.Overrides{WatchedDomains: []string{"Flag.Example"}})
	if err != nil {
		t.Fatal(err)
	}
	w := c.Tenants[0].WatchedDomains
	if diff := cmp.Diff([]string{"b.example", "flag.example", "inline.example"}, w.Domains); diff != "" {
		t.Errorf("domains of the file and of flags (-want +got):\n%s", diff)
	}
	domains, problems := readList(w)
	if len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
	want := []string{"b.example", "c.example", "flag.example", "inline.example", "shared.example"}
	if diff := cmp.Diff(want, domains); diff != "" {
		t.Errorf("domains (-want +got):\n%s", diff)
	}
}

// lines returns the problems of an error, with paths relative to dir.
func lines(err error, dir string) []string {
	if err == nil {
		return nil
	}
	return strings.Split(strings.ReplaceAll(err.Error(), dir+"/", ""), "\n")
}

func TestFlagMistakesNameTheFlag(t *testing.T) {
	path := write(t, map[string]string{"mde.yml": oneTenant})
	_, err := config.Load(path, config.Overrides{WatchedDomains: []string{"ok.example", "http://a.example"}})
	want := []string{`--watched-domain: "http://a.example" is a URL: only its domain can be watched`}
	if diff := cmp.Diff(want, lines(err, filepath.Dir(path))); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestValidLinesOfAnInvalidListAreUsed(t *testing.T) {
	path := write(t, map[string]string{
		"mde.yml": oneTenant + "  watched_domains: {domains: [inline.example], files: [a.txt, b.txt]}\n",
		"a.txt":   "a.example\n",
		"b.txt":   "b.example\n",
	})
	w := mustLoad(t, path).Tenants[0].WatchedDomains
	dir := filepath.Dir(path)
	replace(t, filepath.Join(dir, "a.txt"), "192.0.2.1\nc.example\n")
	if err := os.Remove(filepath.Join(dir, "b.txt")); err != nil {
		t.Fatal(err)
	}
	domains, problems := readList(w)
	if diff := cmp.Diff([]string{"c.example", "inline.example"}, domains); diff != "" {
		t.Errorf("domains (-want +got):\n%s", diff)
	}
	want := []string{`a.txt:1: is an IP address, not a domain`, "b.txt: no such file or directory"}
	if diff := cmp.Diff(want, lines(problems, dir)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestDirectoryIsNotAPattern(t *testing.T) {
	path := write(t, map[string]string{
		"we[i]rd*/mde.yml":   oneTenant + "  watched_domains: {files: [list.txt, 'l/?.txt']}\n",
		"we[i]rd*/list.txt":  "a.example\n",
		"we[i]rd*/l/1.txt":   "b.example\n",
		"weird/l/1.txt":      "no.example\n",
		"we[i]rd-2/list.txt": "no.example\n",
	})
	w := mustLoad(t, filepath.Join(filepath.Dir(path), "we[i]rd*/mde.yml")).Tenants[0].WatchedDomains
	domains, problems := readList(w)
	if diff := cmp.Diff([]string{"a.example", "b.example"}, domains); diff != "" || len(problems) > 0 {
		t.Errorf("problems %v, domains (-want +got):\n%s", problems, diff)
	}
}

func asError(problems config.Problems) error {
	if len(problems) == 0 {
		return nil
	}
	return problems
}

// readList reads the files of a watch list like a starting program.
func readList(w domains.Config) ([]string, config.Problems) {
	list, in := new(domains.Lists).List(w.Files), w.InForce()[0]
	return in.With(list), list.Mistakes
}

func mustLoad(t *testing.T, path string) *config.Config {
	t.Helper()
	c, err := config.Load(path, config.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// replace replaces the content of a file by renaming another over it, like an editor.
func replace(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+"~", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		t.Fatal(err)
	}
}

func TestFileChangesAreDetected(t *testing.T) {
	path := write(t, map[string]string{
		"mde.yml":       oneTenant + "  watched_domains: {files: ['lists/*.txt', other.txt]}\n",
		"lists/one.txt": "a.example\n",
		"other.txt":     "a.example\n",
	})
	dir := filepath.Dir(path)
	one := filepath.Join(dir, "lists/one.txt")
	w := mustLoad(t, path).Tenants[0].WatchedDomains
	var lists domains.Lists
	last := lists.List(w.Files)
	lists.Read(t.Context())
	if again := lists.List(w.Files); again != last {
		t.Fatalf("lists %v and %v for unchanged files", last, again)
	}
	old := time.Now().Add(-time.Hour)
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"an edit in place of the same size", func() error { return os.WriteFile(one, []byte("b.example\n"), 0o600) }},
		{"another edit immediately after", func() error { return os.WriteFile(one, []byte("c.example\n"), 0o600) }},
		{"an older timestamp", func() error {
			return errors.Join(os.WriteFile(one, []byte("d.example\n"), 0o600), os.Chtimes(one, old, old))
		}},
		{"replaced by a rename", func() error { replace(t, one, "e.example\n"); return nil }},
		{"replaced by a rename with the same size and timestamp", func() error {
			return errors.Join(os.WriteFile(one+"~", []byte("f.example\n"), 0o600), os.Chtimes(one+"~", old, old), os.Chtimes(one, old, old), os.Rename(one+"~", one))
		}},
		{"a new file", func() error { return os.WriteFile(filepath.Join(dir, "lists/two.txt"), nil, 0o600) }},
		{"a file removed", func() error { return os.Remove(one) }},
		{"the last file removed", func() error { return os.Remove(filepath.Join(dir, "lists/two.txt")) }},
		{"a named file removed", func() error { return os.Remove(filepath.Join(dir, "other.txt")) }},
		{"a named file created again", func() error { return os.WriteFile(filepath.Join(dir, "other.txt"), nil, 0o600) }},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		lists.Read(t.Context())
		list := lists.List(w.Files)
		if list == last {
			t.Errorf("%s: change not detected", step.name)
		}
		last = list
		lists.Read(t.Context())
		if list := lists.List(w.Files); list != last {
			t.Errorf("%s: list changes again without a change", step.name)
		}
	}
	if list := lists.List(nil); len(list.Domains) != 0 || len(list.Mistakes) != 0 {
		t.Errorf("got %v without files", list)
	}
}

func TestKubernetesConfigMapUpdate(t *testing.T) {
	// A projected volume: list.txt is a link to ..data/list.txt, and ..data to ..one.
	// An update renames a new ..data over the old one.
	dir := t.TempDir()
	for version, content := range map[string]string{"..one": "a.example\n", "..two": "b.example\n"} {
		if err := os.MkdirAll(filepath.Join(dir, version), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, version, "list.txt"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..one", "..data")
	link("..data/list.txt", "list.txt")

	path := write(t, map[string]string{"mde.yml": oneTenant + "  watched_domains: {files: ['" + dir + "/*']}\n"})
	w := mustLoad(t, path).Tenants[0].WatchedDomains
	var lists domains.Lists
	if list := lists.List(w.Files); len(list.Domains) != 1 || list.Domains[0] != "a.example" || len(list.Mistakes) > 0 {
		t.Errorf("got %v before the swap", list)
	}

	link("..two", "..data_tmp")
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	lists.Read(t.Context())
	if list := lists.List(w.Files); len(list.Domains) != 1 || list.Domains[0] != "b.example" || len(list.Mistakes) > 0 {
		t.Errorf("got %v after the swap", list)
	}
}

func TestInvalidListDoesNotRejectTheConfiguration(t *testing.T) {
	path := write(t, map[string]string{
		"mde.yml": oneTenant + "  watched_domains: {files: [bad.txt, none.txt]}\n", "bad.txt": "*\n",
	})
	mustLoad(t, path)
	_, err := config.Check(path, config.Overrides{})
	if got := lines(err, filepath.Dir(path)); len(got) != 2 {
		t.Errorf("--config.check finds %q, want two mistakes", got)
	}
	path = write(t, map[string]string{"mde.yml": oneTenant + "  watched_domains: {files: ['[.txt']}\n"})
	if _, err := config.Load(path, config.Overrides{}); err == nil {
		t.Error("an invalid pattern is accepted")
	}
}

func TestReadWithCanceledContextChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list.txt")
	replace(t, path, "a.example\n")
	var lists domains.Lists
	last := lists.List([]string{path})
	replace(t, path, "b.example\n")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	lists.Read(ctx)
	if list := lists.List([]string{path}); list != last {
		t.Errorf("got %v", list)
	}
}

func TestSummaryOfManyMistakes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list.csv")
	replace(t, path, strings.Repeat("a.example,1\n", 5000))
	list := new(domains.Lists).List([]string{path})
	if n := len(list.Mistakes); n != 100 {
		t.Errorf("%d mistakes kept, want 100", n)
	}
	if s := list.Summary(); len(s) > 1000 || !strings.Contains(s, path+":1: ") || !strings.Contains(s, "--config.check") {
		t.Errorf("summary %q", s)
	}
}

// BenchmarkReadUnchangedLists reads 10,000 unchanged domains in four files that 500
// tenants share.
func BenchmarkReadUnchangedLists(b *testing.B) {
	dir := b.TempDir()
	old := time.Now().Add(-time.Hour)
	for i := range 4 {
		var list strings.Builder
		for j := range 2500 {
			fmt.Fprintf(&list, "host%d.list%d.example\n", j, i)
		}
		path := filepath.Join(dir, fmt.Sprintf("%d.txt", i))
		if err := errors.Join(os.WriteFile(path, []byte(list.String()), 0o600), os.Chtimes(path, old, old)); err != nil {
			b.Fatal(err)
		}
	}
	var lists domains.Lists
	patterns := []string{filepath.Join(dir, "*.txt")}
	for b.Loop() {
		lists.Read(b.Context(), patterns)
		for range 500 {
			if list := lists.List(patterns); len(list.Domains) != 10_000 {
				b.Fatalf("%d domains", len(list.Domains))
			}
		}
	}
}

func FuzzWatchList(f *testing.F) {
	f.Add([]byte("\ufeff# list\r\nEvil.example # why\r\n\r\nhttps://a.example/\n"))
	f.Add([]byte("a.example\nb\xff.example\n"))
	f.Add([]byte("a.example"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "list.txt")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		listed, problems := readList(domains.Config{Files: []string{path}})
		if n := strings.Count(string(data), "\n") + 1; len(listed)+len(problems) > n {
			t.Errorf("%d domains and %d problems in %d lines", len(listed), len(problems), n)
		}
		for _, domain := range listed {
			if again, err := domains.Parse(domain); err != nil || again != domain {
				t.Errorf("invalid domain %q on the list", domain)
			}
		}
		for _, p := range problems {
			if strings.ContainsAny(p.String(), "\n\r") {
				t.Errorf("problem with several lines: %q", p)
			}
		}
	})
}
