package client

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocumentedAPIsMatchTable compares the APIs and
// permissions in the documents with the table.
func TestDocumentedAPIsMatchTable(t *testing.T) {
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	permissions, metrics := read("../docs/permissions.md"), read("../docs/metrics.md")

	var rows []string
	roles := make(map[string]bool)
	for _, r := range apis {
		host, role := "API_URL", "none documented"
		if r.graph {
			host = "GRAPH_URL"
		}
		if r.role != "" {
			role = "`" + r.role + "`"
			roles[r.role] = true
		}
		limits := Limits{CallsPerMinute: 100, CallsPerHour: 1500}.of(r.name)
		rows = append(rows, fmt.Sprintf("| `%s` | `GET %s/%s` | %s | %d | %d,%03d |\n", r.name, host, r.path, role, limits.CallsPerMinute, limits.CallsPerHour/1000, limits.CallsPerHour%1000))
	}
	if want := "| API | call | permission | calls a minute | calls an hour |\n|---|---|---|---|---|\n" + strings.Join(rows, "") + "\n"; !strings.Contains(permissions, want) {
		t.Errorf("docs/permissions.md does not contain this table of APIs:\n%s", want)
	}

	_, table, _ := strings.Cut(permissions, "| permission (application")
	table, _, _ = strings.Cut(table, "\n\n")
	var documented []string
	for _, match := range regexp.MustCompile("(?m)^\\| `(\\S+)` \\| ").FindAllStringSubmatch(table, -1) {
		documented = append(documented, match[1])
	}
	want := slices.Sorted(maps.Keys(roles))
	if !slices.Equal(documented, want) {
		t.Errorf("docs/permissions.md explains the permissions %v, want %v", documented, want)
	}
	if loop := "for role in " + strings.Join(want, " ") + "; do\n"; !strings.Contains(permissions, loop) {
		t.Errorf("the commands of docs/permissions.md do not contain %q", loop)
	}

	names := []string{"`" + string(Token) + "`"}
	for _, api := range PacedAPIs() {
		names = append(names, "`"+string(api)+"`")
	}
	last := len(names) - 1
	if line := "\n`api` is " + strings.Join(names[:last], ", ") + " or " + names[last] + ".\n"; !strings.Contains(metrics, line) {
		t.Errorf("docs/metrics.md does not contain %q", line)
	}
}

func TestAPITableIsConsistent(t *testing.T) {
	for _, r := range apis {
		if r.top > 0 && r.query != fmt.Sprintf("$top=%d", r.top) {
			t.Errorf("%s has the query %q for pages of %d rows", r.name, r.query, r.top)
		}
		if r.path == "" || r.description == "" {
			t.Errorf("%s is incomplete: %+v", r.name, r)
		}
	}
}
