package main

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestImportDirections checks the import rules of docs/design.md: only config imports
// the collectors, and collectors do not import each other.
func TestImportDirections(t *testing.T) {
	const module = "github.com/mde-exporter/mde_exporter"
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		var ours []string
		for path := range strings.FieldsSeq(line) {
			if path, ok := strings.CutPrefix(path+"/", module+"/"); ok {
				ours = append(ours, strings.TrimSuffix(path, "/"))
			}
		}
		imports[ours[0]] = ours[1:]
	}
	var listed []string
	for _, path := range imports["config"] {
		if strings.HasPrefix(path, "collector/") {
			listed = append(listed, path)
		}
	}
	collectors := "^(" + strings.Join(listed, "|") + ")$"
	rules := []struct {
		from, forbidden string
		seen            int
	}{
		{`^client$`, `^(collector|config|dashboards|alerts|internal/[^r])`, 0},
		{`^collector$`, `^(collector/|config|internal/)`, 0},
		{`^collector/(attention|labels)$`, `^(collector/|config|internal/(exporter|web|storage|simulation))`, 0},
		{collectors, collectors + `|^(config|internal/(exporter|web|storage|simulation))`, 0},
		{`^config$`, `^internal/(exporter|web|storage|simulation)`, 0},
		{`^internal/(exporter|web|storage)$`, `^collector/`, 0},
		{`^internal/web$`, `^(client|config|internal/)`, 0},
		{`^$`, `^collector/`, 0},
	}
	for from, paths := range imports {
		for i := range rules {
			rule := &rules[i]
			if !regexp.MustCompile(rule.from).MatchString(from) {
				continue
			}
			rule.seen++
			for _, path := range paths {
				if regexp.MustCompile(rule.forbidden).MatchString(path) {
					t.Errorf("%s imports %s", from, path)
				}
			}
		}
	}
	for _, rule := range rules {
		if rule.seen == 0 {
			t.Errorf("no package matches %s", rule.from)
		}
	}
}
