package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// readme returns the README and, of it, the part below a heading.
func readme(t *testing.T, heading string) string {
	t.Helper()
	content, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(content), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("the README has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}

func TestTheReadmeNamesTheFlagsThatExistAndNoOther(t *testing.T) {
	inReadme := map[string]bool{}
	for _, match := range regexp.MustCompile("--([a-z][a-z.-]*)").FindAllStringSubmatch(readme(t, "Flags"), -1) {
		inReadme[match[1]] = true
	}
	for _, flag := range (&flags{}).application().Model().Flags {
		if !flag.Hidden && !inReadme[flag.Name] {
			t.Errorf("the README does not name --%s", flag.Name)
		}
		delete(inReadme, flag.Name)
	}
	for name := range inReadme {
		t.Errorf("the README names --%s, which does not exist", name)
	}
}

func TestLinksBetweenPagesLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)]*)?\)`)
	for _, page := range append(pages, more...) {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(string(content), -1) {
			target := filepath.Join(filepath.Dir(page), match[1])
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links %s, which is not there", page, match[1])
			}
		}
	}
}
