package main

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestImportsRunOneWay checks the direction of docs/design.md: a collector is known
// to config alone, which lists them all, and no collector knows another.
func TestImportsRunOneWay(t *testing.T) {
	const module = "github.com/mde-exporter/mde_exporter"
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	collectors := `^collector/(states|domains)$`
	rules := []struct {
		from, forbidden string
		seen            int
	}{
		{`^client$`, `^(collector|config|dashboards|alerts|internal/[^r])`, 0},
		{`^collector$`, `^(collector/|config|internal/)`, 0},
		{`^collector/(attention|labels)$`, `^(collector/|config|internal/(exporter|web|storage|simulation))`, 0},
		{collectors, `^(collector/(states|domains)|config|internal/(exporter|web|storage|simulation))`, 0},
		{`^config$`, `^internal/(exporter|web|storage|simulation)`, 0},
		{`^internal/(exporter|web|storage)$`, `^collector/`, 0},
		{`^internal/web$`, `^(client|config|internal/)`, 0},
		{`^$`, `^collector/domains$`, 0},
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		from := strings.TrimPrefix(strings.TrimPrefix(fields[0], module), "/")
		for i := range rules {
			rule := &rules[i]
			if !regexp.MustCompile(rule.from).MatchString(from) {
				continue
			}
			rule.seen++
			for _, path := range fields[1:] {
				if ours, ok := strings.CutPrefix(path, module+"/"); ok && regexp.MustCompile(rule.forbidden).MatchString(ours) {
					t.Errorf("%s imports %s", from, ours)
				}
			}
		}
	}
	for _, rule := range rules {
		if rule.seen == 0 {
			t.Errorf("no package is %s", rule.from)
		}
	}
}
