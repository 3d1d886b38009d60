package client

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// waitingRules are the rules in waiting.go by name.
var waitingRules = map[string]any{
	"RefreshRetry": RefreshRetry, "RefreshSpread": RefreshSpread, "DomainRetry": DomainRetry,
	"callRetry": callRetry, "identityRetry": identityRetry, "credentialRetry": credentialRetry, "tokenRetry": tokenRetry,
	"MinDeniedPause": MinDeniedPause, "MaxLookupRetries": MaxLookupRetries, "MinHang": MinHang, "MaxHang": MaxHang,
	"PreviewRecheck": PreviewRecheck, "StartSpacing": StartSpacing,
	"maxRetryAfter": maxRetryAfter, "maxSignInWait": maxSignInWait, "renewBefore": renewBefore, "renewAgain": renewAgain,
	"quotaGuard": quotaGuard, "paceGuard": paceGuard,
}

// TestRetryRulesMatchDocumentation compares the rules with docs/design.md:
// each has one row with its value and a reason, and applies in the packages of
// its row and in no other.
func TestRetryRulesMatchDocumentation(t *testing.T) {
	text, err := os.ReadFile("../docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Waiting\n")
	section, _, _ = strings.Cut(section, "\n## ")
	used := usedRules(t)
	documented := make(map[string]bool)
	for _, row := range regexp.MustCompile(`(?m)^\| (.+) \| (.+) \| (.+) \| (.+) \| (.+) \|$`).FindAllStringSubmatch(section, -1) {
		name := strings.Trim(row[1], "`")
		if "`"+name+"`" != row[1] || name == "Retry-After" {
			continue // A rule without a value of its own.
		}
		if documented[name] {
			t.Errorf("%s has two rows", name)
		}
		documented[name] = true
		if waitingRules[name] == nil {
			t.Errorf("there is no rule %s", name)
			continue
		}
		if want := describe(waitingRules[name]); row[2] != want {
			t.Errorf("the value of %s is %q in the document, want %q", name, row[2], want)
		}
		packages := strings.Split(strings.ReplaceAll(row[3], "`", ""), ", ")
		for _, file := range used[name] {
			if !slices.ContainsFunc(packages, func(dir string) bool { return strings.HasPrefix(file, dir+"/") }) {
				t.Errorf("%s applies %s, but the document does not list this package", file, name)
			}
		}
		for _, dir := range packages {
			if !slices.ContainsFunc(used[name], func(file string) bool { return strings.HasPrefix(file, dir+"/") }) {
				t.Errorf("no file of %s applies %s", dir, name)
			}
		}
	}
	for _, name := range declaredRules(t) {
		if waitingRules[name] == nil || !documented[name] {
			t.Errorf("%s is missing in the document or in this test", name)
		}
	}
}

// describe formats the value of a rule as the document does.
func describe(value any) string {
	short := func(d time.Duration) string {
		return regexp.MustCompile(`([hm])(0m)?0s$`).ReplaceAllString(d.String(), "$1")
	}
	r, ok := value.(RetryRule)
	if !ok {
		return short(value.(time.Duration))
	}
	var parts []string
	for _, pause := range r.Pauses {
		parts = append(parts, short(pause))
	}
	switch {
	case r.Longest > 0:
		parts = append(parts, "doubled up to "+short(r.Longest))
	case len(r.Pauses) == 1 && r.Jitter > 0:
		parts = append(parts, "doubled up to the limit")
	}
	if r.Jitter > 0 {
		parts = append(parts, fmt.Sprintf("± %.0f%%", 100*r.Jitter))
	}
	if r.Tries > 0 {
		parts = append(parts, fmt.Sprintf("%d tries", r.Tries))
	}
	return strings.Join(parts, ", ")
}

func declaredRules(t *testing.T) (names []string) {
	file, err := parser.ParseFile(token.NewFileSet(), "waiting.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		declaration, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range declaration.Specs {
			if values, ok := spec.(*ast.ValueSpec); ok {
				for _, name := range values.Names {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}

// usedRules returns the files that use each rule.
func usedRules(t *testing.T) map[string][]string {
	used := make(map[string][]string)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		file := strings.TrimPrefix(filepath.ToSlash(path), "../")
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || file == "client/waiting.go" {
			return err
		}
		words := regexp.MustCompile(`\bclient\.([A-Z]\w+)`)
		if strings.HasPrefix(file, "client/") {
			words = regexp.MustCompile(`\b(\w+)`)
		}
		content, err := os.ReadFile(path)
		for _, use := range words.FindAllStringSubmatch(string(regexp.MustCompile(`//.*`).ReplaceAll(content, nil)), -1) {
			used[use[1]] = append(used[use[1]], file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return used
}

func TestPauseIncreasesUpToLimit(t *testing.T) {
	for name, tc := range map[string]struct {
		rule RetryRule
		want []time.Duration
	}{
		"fixed":        {RetryRule{Pauses: []time.Duration{5, 7}}, []time.Duration{5, 7, 7, 7}},
		"doubled":      {RetryRule{Pauses: []time.Duration{5}, Longest: 30}, []time.Duration{5, 10, 20, 30, 30}},
		"a list first": {RetryRule{Pauses: []time.Duration{1, 5}, Longest: 15}, []time.Duration{1, 5, 10, 15}},
		"a low limit":  {RetryRule{Pauses: []time.Duration{5}}.Within(3), []time.Duration{3, 3}},
	} {
		for i, want := range tc.want {
			if got := tc.rule.After(i + 1); got != want {
				t.Errorf("%s: a pause of %d after %d failures, want %d", name, got, i+1, want)
			}
		}
		if got := tc.rule.After(1 << 40); got != tc.want[len(tc.want)-1] {
			t.Errorf("%s: a pause of %d after many failures", name, got)
		}
	}
}

func TestJitterMakesPausesShorterAndLonger(t *testing.T) {
	shortest, longest := time.Hour, time.Hour
	for range 1000 {
		d := RetryRule{Jitter: 0.25}.Spread(time.Hour)
		shortest, longest = min(shortest, d), max(longest, d)
	}
	if shortest < 45*time.Minute || shortest > 50*time.Minute || longest < 70*time.Minute || longest > 75*time.Minute {
		t.Errorf("pauses of %s to %s for an hour with a jitter of a quarter", shortest, longest)
	}
}
