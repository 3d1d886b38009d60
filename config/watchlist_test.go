package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

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
	domains, problems := w.Read()
	if len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
	want := []string{"b.example", "c.example", "flag.example", "inline.example", "shared.example"}
	if diff := cmp.Diff(want, domains); diff != "" {
		t.Errorf("domains (-want +got):\n%s", diff)
	}
}

func TestAMistakeInAWatchListIsToldWithItsOwnLine(t *testing.T) {
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
	_, err := config.Load(path, config.Overrides{})
	want := []string{
		"mde.yml:7: tenants[0].watched_domains.files[1]: none.txt: no such file or directory",
		"mde.yml:8: tenants[0].watched_domains.files[2]: lists: not a regular file",
		"mde.yml:9: tenants[0].watched_domains.files[3]: [.txt: not a valid pattern of file names",
		"mde.yml:10: tenants[0].watched_domains.files[4]: pipe: not a regular file",
		`lists/one.txt:2: is a URL: only its domain can be watched`,
		`lists/one.txt:4: holds a wildcard: each domain must be named`,
		"lists/two.txt:2: not UTF-8 text",
		"lists/utf.txt:1: not UTF-8 text",
	}
	if diff := cmp.Diff(want, lines(err, dir)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// lines are the problems of an error, with paths relative to a directory.
func lines(err error, dir string) []string {
	if err == nil {
		return nil
	}
	return strings.Split(strings.ReplaceAll(err.Error(), dir+"/", ""), "\n")
}

func TestAMistakeOfAFlagNamesTheFlag(t *testing.T) {
	path := write(t, map[string]string{"mde.yml": oneTenant})
	_, err := config.Load(path, config.Overrides{WatchedDomains: []string{"ok.example", "http://a.example"}})
	want := []string{`--watched-domain: "http://a.example" is a URL: only its domain can be watched`}
	if diff := cmp.Diff(want, lines(err, filepath.Dir(path))); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestGoodLinesOfABrokenListAreWatched(t *testing.T) {
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
	domains, problems := w.Read()
	if diff := cmp.Diff([]string{"c.example", "inline.example"}, domains); diff != "" {
		t.Errorf("domains (-want +got):\n%s", diff)
	}
	want := []string{`a.txt:1: is an address, not a domain`, "b.txt: no such file or directory"}
	if diff := cmp.Diff(want, lines(problems, dir)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestTheDirectoryOfTheFileIsTakenLiterally(t *testing.T) {
	path := write(t, map[string]string{
		"we[i]rd*/mde.yml":   oneTenant + "  watched_domains: {files: [list.txt, 'l/?.txt']}\n",
		"we[i]rd*/list.txt":  "a.example\n",
		"we[i]rd*/l/1.txt":   "b.example\n",
		"weird/l/1.txt":      "no.example\n",
		"we[i]rd-2/list.txt": "no.example\n",
	})
	w := mustLoad(t, filepath.Join(filepath.Dir(path), "we[i]rd*/mde.yml")).Tenants[0].WatchedDomains
	domains, problems := w.Read()
	if diff := cmp.Diff([]string{"a.example", "b.example"}, domains); diff != "" || len(problems) > 0 {
		t.Errorf("problems %v, domains (-want +got):\n%s", problems, diff)
	}
}

func mustLoad(t *testing.T, path string) *config.Config {
	t.Helper()
	c, err := config.Load(path, config.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// replace gives a file new content the way editors do: by renaming another over it.
func replace(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+"~", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		t.Fatal(err)
	}
}

func TestTheDigestChangesWithTheFiles(t *testing.T) {
	path := write(t, map[string]string{
		"mde.yml":       oneTenant + "  watched_domains: {files: ['lists/*.txt', other.txt]}\n",
		"lists/one.txt": "a.example\n",
		"other.txt":     "a.example\n",
	})
	dir := filepath.Dir(path)
	one := filepath.Join(dir, "lists/one.txt")
	w := mustLoad(t, path).Tenants[0].WatchedDomains
	last := w.Digest()
	if again := w.Digest(); again != last || last == "" {
		t.Fatalf("digests %q and %q of the same files", last, again)
	}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"an edit in place", func() error { return os.WriteFile(one, []byte("b.example\n"), 0o600) }},
		{"an editor that renames", func() error { replace(t, one, "c.example\n"); return nil }},
		{"a new file", func() error { return os.WriteFile(filepath.Join(dir, "lists/two.txt"), nil, 0o600) }},
		{"a file that goes", func() error { return os.Remove(one) }},
		{"the last file that goes", func() error { return os.Remove(filepath.Join(dir, "lists/two.txt")) }},
		{"a named file that goes", func() error { return os.Remove(filepath.Join(dir, "other.txt")) }},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		digest := w.Digest()
		if digest == last {
			t.Errorf("%s does not change the digest", step.name)
		}
		last = digest
	}
	if digest := (config.WatchedDomains{}).Digest(); digest != "" {
		t.Errorf("digest %q without files", digest)
	}
}

func TestAKubernetesConfigMapIsSwapped(t *testing.T) {
	// A projected volume: list.txt → ..data/list.txt, ..data → ..one, and an
	// update renames a new ..data over the old one.
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
	before := w.Digest()
	if domains, problems := w.Read(); len(domains) != 1 || domains[0] != "a.example" || len(problems) > 0 {
		t.Errorf("got %v, %v before the swap", domains, problems)
	}

	link("..two", "..data_tmp")
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	if w.Digest() == before {
		t.Error("the swap does not change the digest")
	}
	if domains, problems := w.Read(); len(domains) != 1 || domains[0] != "b.example" || len(problems) > 0 {
		t.Errorf("got %v, %v after the swap", domains, problems)
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
		domains, problems := config.WatchedDomains{Files: []string{path}}.Read()
		if n := strings.Count(string(data), "\n") + 1; len(domains)+len(problems) > n {
			t.Errorf("%d domains and %d problems in %d lines", len(domains), len(problems), n)
		}
		for _, domain := range domains {
			if again, err := config.ParseDomain(domain); err != nil || again != domain {
				t.Errorf("%q is on the list", domain)
			}
		}
		for _, p := range problems {
			if strings.ContainsAny(p.String(), "\n\r") {
				t.Errorf("a problem of several lines: %q", p)
			}
		}
	})
}
