package domains

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/mde-exporter/mde_exporter/collector"
)

// maxListBytes is the maximum size of a watch-list file. Half a million domains fit.
const maxListBytes = 16 << 20

// parseList parses a watch list: one domain per line. Blank lines and comments from #
// to the end of the line are ignored.
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
