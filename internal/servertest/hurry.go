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
	// seconds are the least interval that a rule reckons with.
	seconds = regexp.MustCompile(`(clamp_min\(.+, )(\d+)\)`)
)

// Hurry returns alert rules with each `for:`, range, offset and clamp_min of
// seconds divided by the factor, ranges no shorter than shortest, which is some
// scrapes. Nothing else of them is changed.
func Hurry(t testing.TB, rules string, factor, shortest time.Duration) string {
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
