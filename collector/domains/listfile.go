package domains

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/mde-exporter/mde_exporter/collector"
)

// maxListBytes bounds a watch-list file: half a million domains fit, a disk
// image that a wildcard happens to match does not.
const maxListBytes = 16 << 20

// parseList reads a watch list: a domain a line, with blank lines and comments
// from # to the end of the line.
func parseList(path string, data []byte) (domains []string, problems []collector.Mistake) {
	number := 0
	for line := range bytes.Lines(data) {
		number++
		if !utf8.Valid(line) || bytes.IndexByte(line, 0) >= 0 {
			return domains, append(problems, collector.Mistake{File: path, Line: number, Message: "not UTF-8 text"})
		}
		name, _, _ := strings.Cut(string(line), "#")
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		domain, err := parse(name)
		if err != nil {
			problems = append(problems, collector.Mistake{File: path, Line: number, Message: err.Error()})
			continue
		}
		domains = append(domains, domain)
	}
	return domains, problems
}
