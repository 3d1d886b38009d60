package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var flagName = regexp.MustCompile("--([a-z][a-z.-]*)")

func TestDocumentedFlags(t *testing.T) {
	const page = "docs/configuration.md"
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(content), "\n## Flags\n")
	if !found {
		t.Fatalf("%s has no section about flags", page)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	onPage := map[string]bool{}
	for _, match := range flagName.FindAllStringSubmatch(section, -1) {
		onPage[match[1]] = true
	}
	for _, flag := range (&flags{}).application().Model().Flags {
		if !flag.Hidden && !onPage[flag.Name] {
			t.Errorf("%s: flag --%s is missing", page, flag.Name)
		}
		delete(onPage, flag.Name)
	}
	for name := range onPage {
		t.Errorf("%s: flag --%s does not exist", page, name)
	}
}

var (
	pageLink = regexp.MustCompile(`\]\(([^)#:\s]*)(?:#([^)]*))?\)`)
	heading  = regexp.MustCompile("(?m)^#+ (.*)$")
	anchor   = regexp.MustCompile(`<a id="([^"]+)">`)
	codeOf   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	notASlug = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// anchors returns the anchors of a page as GitHub generates them.
func anchors(page string) map[string]bool {
	names := map[string]bool{}
	for _, match := range heading.FindAllStringSubmatch(codeOf.ReplaceAllString(page, ""), -1) {
		names[strings.ReplaceAll(notASlug.ReplaceAllString(strings.ToLower(match[1]), ""), " ", "-")] = true
	}
	for _, match := range anchor.FindAllStringSubmatch(page, -1) {
		names[match[1]] = true
	}
	return names
}

func pages(t *testing.T) []string {
	t.Helper()
	top, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	return append(top, docs...)
}

func TestLinksBetweenPages(t *testing.T) {
	for _, page := range pages(t) {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range pageLink.FindAllStringSubmatch(codeOf.ReplaceAllString(string(content), ""), -1) {
			target := page
			if match[1] != "" {
				target = filepath.Join(filepath.Dir(page), match[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: linked file %s does not exist", page, match[1])
				continue
			}
			if match[2] == "" || filepath.Ext(target) != ".md" {
				continue
			}
			linked, err := os.ReadFile(target)
			if err != nil {
				t.Fatal(err)
			}
			if !anchors(string(linked))[match[2]] {
				t.Errorf("%s: linked section %s#%s does not exist", page, match[1], match[2])
			}
		}
	}
}

func TestIndexLinksAllPages(t *testing.T) {
	const index = "docs/index.md"
	content, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages(t) {
		link, err := filepath.Rel(filepath.Dir(index), page)
		if err != nil {
			t.Fatal(err)
		}
		if page != index && !strings.Contains(string(content), "]("+filepath.ToSlash(link)) {
			t.Errorf("%s: link to %s is missing", index, page)
		}
	}
}
