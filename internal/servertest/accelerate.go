package servertest

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/common/model"
)

var (
	durations = regexp.MustCompile(`(\[|offset |for: )(\d+[smhdw])`)
	// seconds matches the lower bounds of intervals in rules.
	seconds = regexp.MustCompile(`(clamp_min\(.+, )(\d+)\)`)
)

// Accelerate returns alert rules with each `for:`, range, offset and clamp_min of
// seconds divided by the factor. Ranges are at least shortest, which should cover
// several scrapes.
func Accelerate(t testing.TB, rules string, factor, shortest time.Duration) string {
	t.Helper()
	rules = seconds.ReplaceAllStringFunc(rules, func(match string) string {
		parts := seconds.FindStringSubmatch(match)
		n, err := strconv.Atoi(parts[2])
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s%g)", parts[1], float64(n)/float64(factor))
	})
	return durations.ReplaceAllStringFunc(rules, func(match string) string {
		parts := durations.FindStringSubmatch(match)
		d, err := model.ParseDuration(parts[2])
		if err != nil {
			t.Fatal(err)
		}
		short := time.Duration(d) / factor
		if parts[1] == "[" {
			short = max(short, shortest)
		}
		return fmt.Sprintf("%s%dms", parts[1], short.Milliseconds())
	})
}
