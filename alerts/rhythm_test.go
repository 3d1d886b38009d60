package alerts_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

var (
	rhythmRow  = regexp.MustCompile(`(?m)^\| \[(MDE\w+)\]\(#\w+\) \| (\w+) \| [^|]+ \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$`)
	rhythmName = regexp.MustCompile(`events at (\d+)m(?: that end at (\d+)m)?`)
	firingOf   = regexp.MustCompile(`^count\(ALERTS\{alertname="(\w+)", alertstate="firing"[^}]*\}\)$`)
)

// duration reads "24 h 15 min" or "60 min".
func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(strings.NewReplacer(" h", "h", " min", "m", " ", "").Replace(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// firingTimes are the times at which the unit tests of the alerts' rhythm look
// at each alert, and whether it fires then.
func firingTimes(t *testing.T) map[string]map[time.Duration]bool {
	t.Helper()
	files, err := filepath.Glob("tests/rhythm*_test.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("the tests of the rhythm are %v, %v", files, err)
	}
	times := map[string]map[time.Duration]bool{}
	for _, name := range files {
		var file struct {
			Tests []struct {
				Name  string
				Exprs []struct {
					Expr    string
					Time    model.Duration `yaml:"eval_time"`
					Samples []any          `yaml:"exp_samples"`
				} `yaml:"promql_expr_test"`
			}
		}
		if err := yaml.Unmarshal([]byte(read(t, name)), &file); err != nil {
			t.Fatal(err)
		}
		for _, test := range file.Tests {
			for _, e := range test.Exprs {
				match := firingOf.FindStringSubmatch(e.Expr)
				if match == nil {
					t.Fatalf("%s: %s", name, e.Expr)
				}
				key := match[1] + ", " + rhythmName.FindString(test.Name)
				if times[key] == nil {
					times[key] = map[time.Duration]bool{}
				}
				times[key][time.Duration(e.Time)] = len(e.Samples) > 0
			}
		}
	}
	return times
}

// TestRunbookTableStatesWhenEachAlertFires compares the table in the runbooks
// with the unit tests: an alert fires at the time of the table and not before, it
// fires until it resolves at the time of the table. Before is two evaluations
// before, because Prometheus 2 and 3 differ by one at the ends of a range.
func TestRunbookTableStatesWhenEachAlertFires(t *testing.T) {
	times := firingTimes(t)
	rows := rhythmRow.FindAllStringSubmatch(read(t, "../docs/runbooks.md"), -1)
	severities := map[string]string{}
	for _, a := range bundled(t) {
		severities[a.Alert] = severity(t, a)
	}
	for _, row := range rows {
		name, severity, fires, end, resolves := row[1], row[2], duration(t, row[3]), row[4], duration(t, row[5])
		if severities[name] != severity {
			t.Errorf("%s is %s, the table has %s", name, severities[name], severity)
		}
		delete(severities, name)
		tested := 0
		for key, got := range times {
			if !strings.HasPrefix(key, name+", ") {
				continue
			}
			tested++
			match := rhythmName.FindStringSubmatch(key)
			from, step := minutes(match[1]), time.Minute
			until := from
			if match[2] == "" {
				step = 5 * time.Minute
			} else if end != "the event" {
				until = minutes(match[2])
			}
			want := map[time.Duration]bool{
				from + fires - 2*step: false, from + fires: true,
				until + resolves - 2*step: true, until + resolves: false,
			}
			if fmt.Sprint(want) != fmt.Sprint(got) {
				t.Errorf("%s: the table means %v, tested is %v", key, want, got)
			}
		}
		if tested != 1 {
			t.Errorf("%d unit tests have the times of %s", tested, name)
		}
	}
	for name := range severities {
		t.Errorf("the table does not have %s", name)
	}
}

func minutes(text string) time.Duration {
	n, _ := strconv.Atoi(text) // A number, by the expression that found it.
	return time.Duration(n) * time.Minute
}
