package servertest

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/prometheus/common/model"
)

var durations = regexp.MustCompile(`(\[|offset |for: )(\d+[smhdw])`)

// Hurry returns alert rules with each `for:`, range and offset divided by the
// factor, ranges no shorter than shortest, which is some scrapes. Nothing else of
// them is changed.
func Hurry(t testing.TB, rules string, factor, shortest time.Duration) string {
	t.Helper()
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
