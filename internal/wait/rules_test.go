package wait

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

// rules are those of rules.go, by name.
var rules = map[string]any{
	"Call": Call, "IdentityEndpoint": IdentityEndpoint, "RefusedCredential": RefusedCredential, "RefusedToken": RefusedToken,
	"FailedRefresh": FailedRefresh, "FailedDomain": FailedDomain, "Refreshed": Refreshed,
	"MaxRetryAfter": MaxRetryAfter, "MaxSignIn": MaxSignIn, "MaxLookup": MaxLookup, "MinDenied": MinDenied, "RenewBefore": RenewBefore, "RenewAgain": RenewAgain,
	"QuotaGuard": QuotaGuard, "PaceGuard": PaceGuard, "MinHang": MinHang, "MaxHang": MaxHang, "LeftPreview": LeftPreview, "StartSpacing": StartSpacing,
}

const root = "../.."

// TestTheTableOfRulesIsThatOfTheDocuments compares the rules with docs/design.md:
// each has one row with its value and a reason, and applies in the packages of
// its row and in no other.
func TestTheTableOfRulesIsThatOfTheDocuments(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/design.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Waiting\n")
	section, _, _ = strings.Cut(section, "\n## ")
	used := usedRules(t)
	documented := make(map[string]bool)
	for _, row := range regexp.MustCompile(`(?m)^\| (.+) \| (.+) \| (.+) \| (.+) \| (.+) \|$`).FindAllStringSubmatch(section, -1) {
		name, ok := strings.CutPrefix(strings.Trim(row[1], "`"), "wait.")
		if !ok {
			continue // A rule without a value of its own.
		}
		if documented[name] {
			t.Errorf("%s has two rows", name)
		}
		documented[name] = true
		if rules[name] == nil {
			t.Errorf("there is no rule %s", name)
			continue
		}
		if want := describe(rules[name]); row[2] != want {
			t.Errorf("the value of %s is %q in the document, want %q", name, row[2], want)
		}
		packages := strings.Split(strings.ReplaceAll(row[3], "`", ""), ", ")
		for _, file := range used[name] {
			if !slices.ContainsFunc(packages, func(dir string) bool { return strings.HasPrefix(file, dir+"/") }) {
				t.Errorf("%s applies %s, which the document does not say", file, name)
			}
		}
		for _, dir := range packages {
			if !slices.ContainsFunc(used[name], func(file string) bool { return strings.HasPrefix(file, dir+"/") }) {
				t.Errorf("no file of %s applies %s", dir, name)
			}
		}
	}
	for _, name := range declaredRules(t) {
		if rules[name] == nil || !documented[name] {
			t.Errorf("%s is missing in the document or in this test", name)
		}
	}
}

// describe is the value of a rule as the document spells it.
func describe(value any) string {
	short := func(d time.Duration) string {
		return regexp.MustCompile(`([hm])(0m)?0s$`).ReplaceAllString(d.String(), "$1")
	}
	r, ok := value.(Rule)
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
		parts = append(parts, fmt.Sprintf("± %.0f %%", 100*r.Jitter))
	}
	if r.Tries > 0 {
		parts = append(parts, fmt.Sprintf("%d tries", r.Tries))
	}
	return strings.Join(parts, ", ")
}

func declaredRules(t *testing.T) (names []string) {
	file, err := parser.ParseFile(token.NewFileSet(), "rules.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		for _, spec := range d.(*ast.GenDecl).Specs {
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
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		content, err := os.ReadFile(path)
		code := regexp.MustCompile(`//.*`).ReplaceAll(content, nil)
		for _, use := range regexp.MustCompile(`\bwait\.([A-Z]\w+)`).FindAllStringSubmatch(string(code), -1) {
			name, _ := filepath.Rel(root, path)
			used[use[1]] = append(used[use[1]], filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return used
}

func TestAPauseGrowsUpToItsLimit(t *testing.T) {
	for name, tc := range map[string]struct {
		rule Rule
		want []time.Duration
	}{
		"fixed":        {Rule{Pauses: []time.Duration{5, 7}}, []time.Duration{5, 7, 7, 7}},
		"doubled":      {Rule{Pauses: []time.Duration{5}, Longest: 30}, []time.Duration{5, 10, 20, 30, 30}},
		"a list first": {Rule{Pauses: []time.Duration{1, 5}, Longest: 15}, []time.Duration{1, 5, 10, 15}},
		"a low limit":  {Rule{Pauses: []time.Duration{5}}.Within(3), []time.Duration{3, 3}},
	} {
		for i, want := range tc.want {
			if got := tc.rule.After(i + 1); got != want {
				t.Errorf("%s: after %d failures %d, want %d", name, i+1, got, want)
			}
		}
		if got := tc.rule.After(1 << 40); got != tc.want[len(tc.want)-1] {
			t.Errorf("%s: after many failures %d", name, got)
		}
	}
}
