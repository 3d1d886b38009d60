package main

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDependenciesAreDocumented compares the table in docs/performance.md with go.mod.
func TestDependenciesAreDocumented(t *testing.T) {
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	_, table, found := strings.Cut(read("docs/performance.md"), "| dependency |")
	if !found {
		t.Fatal("no table of dependencies")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	required := make(map[string]bool)
	for _, line := range regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllStringSubmatch(read("go.mod"), -1) {
		required[line[1]] = true
		if !strings.Contains(table, "\n| `"+line[1]+"` | ") {
			t.Errorf("%s is not in the table", line[1])
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\S+)` \\| ").FindAllStringSubmatch(table, -1) {
		if !required[row[1]] {
			t.Errorf("%s is in the table but not in go.mod", row[1])
		}
	}
}

// TestDocumentedTestsExist checks that the tests and benchmarks that the pages name exist,
// and that each pattern of a go test command matches one.
func TestDocumentedTestsExist(t *testing.T) {
	named := regexp.MustCompile(`\b(?:Test|Benchmark)[A-Z]\w+`)
	run := regexp.MustCompile(`go test (?:-C )?(\S+) .*?-(run|bench) '?([^\s']+)`)
	tests, commands := testNames(t), 0
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range named.FindAllString(string(text), -1) {
			if !slices.ContainsFunc(tests, func(test string) bool { return path.Base(test) == name }) {
				t.Errorf("%s: %s does not exist", page, name)
			}
		}
		for _, command := range run.FindAllStringSubmatch(strings.ReplaceAll(string(text), "-run '^$' ", ""), -1) {
			commands++
			kind := map[string]string{"run": "Test", "bench": "Benchmark"}[command[2]]
			for alternative := range strings.SplitSeq(command[3], "|") {
				pattern := regexp.MustCompile(alternative)
				if !slices.ContainsFunc(tests, func(test string) bool {
					return path.Dir(test) == path.Clean(command[1]) && strings.HasPrefix(path.Base(test), kind) && pattern.MatchString(path.Base(test))
				}) {
					t.Errorf("%s: no %s matches %s: %s", page, strings.ToLower(kind), alternative, command[0])
				}
			}
		}
	}
	if commands == 0 {
		t.Error("no command found")
	}
}

// testNames returns the tests and benchmarks of the repository, as "directory/name".
func testNames(t *testing.T) (names []string) {
	t.Helper()
	function := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark)\w+)\(`)
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && strings.HasPrefix(file, ".") && file != "." {
			return fs.SkipDir
		}
		if err != nil || !strings.HasSuffix(file, "_test.go") {
			return err
		}
		text, err := os.ReadFile(file)
		for _, match := range function.FindAllSubmatch(text, -1) {
			names = append(names, path.Join(path.Dir(filepath.ToSlash(file)), string(match[1])))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
