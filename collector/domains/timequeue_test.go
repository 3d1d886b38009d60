package domains

import (
	"strings"
	"testing"
	"time"
)

func TestTimeQueueKeepsTheOrderOfEqualTimes(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var q timeQueue[string]
	places := make([]queuePlace[string], 6)
	for i, name := range []string{"a", "b", "c", "d", "e"} {
		q.put(&places[i], name, at)
	}
	q.put(&places[5], "first", at.Add(-time.Second))
	places[2].remove()
	q.put(&places[0], "a", at) // Behind the others.
	var got []string
	for name, ok := q.first(); ok; name, ok = q.first() {
		got = append(got, name)
		for i := range places {
			if places[i].value == name {
				places[i].remove()
			}
		}
	}
	if order := strings.Join(got, " "); order != "first b d e a" {
		t.Errorf("order %q", order)
	}
}
