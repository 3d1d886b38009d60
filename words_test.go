package main

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// plainWords maps phrases that readers do not search for to the words to write
// instead. A space matches any white space, including line breaks and comment signs.
var plainWords = map[string]string{
	`is not to be had`:             "is unavailable",
	`well or badly`:                "successful or not",
	`mend(s|ed|ing)?`:              "fix",
	`read(s|ing)? to nowhere`:      "read and discard",
	`(is|are) told`:                "knows, is notified",
	`tells? (of|that|whether|how)`: "reports, says, shows",
	`goes on`:                      "continues",
}

// quotations are quoted texts that may contain the phrases, by file.
var quotations = map[string][]string{}

func TestPlainWords(t *testing.T) {
	phrases := map[string]*regexp.Regexp{}
	for phrase := range plainWords {
		phrases[phrase] = regexp.MustCompile(`(?i)\b` + strings.ReplaceAll(phrase, " ", `[\s/#>]+`) + `\b`)
	}
	written := []string{".go", ".md", ".yaml", ".yml", ".html"}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains([]string{".git", ".build", ".tarballs", ".bin", "node_modules"}, entry.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if path == "words_test.go" || !slices.Contains(written, filepath.Ext(path)) {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text := string(content)
		for _, quotation := range quotations[path] {
			if !strings.Contains(text, quotation) {
				t.Errorf("%s no longer quotes %q", path, quotation)
			}
			// Keep the length, and so the line numbers.
			text = strings.ReplaceAll(text, quotation, strings.Repeat(".", len(quotation)))
		}
		for _, phrase := range slices.Sorted(maps.Keys(phrases)) {
			for _, at := range phrases[phrase].FindAllStringIndex(text, -1) {
				line := 1 + strings.Count(text[:at[0]], "\n")
				t.Errorf("%s:%d: %q: write: %s", path, line, text[at[0]:at[1]], plainWords[phrase])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
