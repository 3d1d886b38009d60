package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnlistedSkipsFail runs tools/skips, which fails continuous integration, on the
// results of two runs.
func TestUnlistedSkipsFail(t *testing.T) {
	event := func(action, pkg, test string) string {
		return `{"Time":"2026-01-01T00:00:00Z","Action":"` + action + `","Package":"github.com/mde-exporter/mde_exporter` + pkg + `","Test":"` + test + `","Elapsed":0}` + "\n"
	}
	const noTests = `{"Time":"2026-01-01T00:00:00Z","Action":"skip","Package":"github.com/mde-exporter/mde_exporter/internal/servertest","Elapsed":0}` + "\n"
	passed := event("pass", "/client", "TestA") + event("output", "/client", "TestB") + noTests
	const list = "# Tests that may be skipped.\n\nclient TestA needs a missing program\n"
	for name, tc := range map[string]struct {
		results []string
		list    string
		want    string
		fails   bool
	}{
		"nothing skipped, nothing listed": {[]string{passed, ""}, "# None.\n\n# None.\n", "", false},
		"listed":                          {[]string{event("skip", "/client", "TestA"), passed}, list, "", false},
		"not listed":                      {[]string{passed, event("skip", "/client", "TestA") + event("skip", "/client", "TestB")}, list, "skipped, but not listed: client TestB\n", true},
		"another package":                 {[]string{event("skip", "/config", "TestA")}, list, "listed, but not skipped: client TestA\nskipped, but not listed: config TestA\n", true},
		"root package":                    {[]string{event("skip", "", "TestMain/sub_test")}, list, "listed, but not skipped: client TestA\nskipped, but not listed: . TestMain/sub_test\n", true},
		"stale":                           {[]string{passed}, list, "listed, but not skipped: client TestA\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			args := []string{filepath.Join(dir, "skips")}
			for path, content := range map[string]string{"skips": tc.list, "a.json": tc.results[0], "b.json": strings.Join(tc.results[1:], "")} {
				if err := os.WriteFile(filepath.Join(dir, path), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
				if path != "skips" {
					args = append(args, filepath.Join(dir, path))
				}
			}
			output, err := exec.CommandContext(t.Context(), "tools/skips", args...).CombinedOutput()
			if string(output) != tc.want || (err != nil) != tc.fails {
				t.Errorf("printed\n%s(%v), want\n%s", output, err, tc.want)
			}
		})
	}
}
