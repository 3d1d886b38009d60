package main

import (
	"os"
	"regexp"
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
