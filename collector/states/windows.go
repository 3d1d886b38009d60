package states

import (
	"strconv"
	"time"
)

// windows are spans of time that end at the start of a refresh, the shortest first.
type windows []window

type window struct {
	name   string
	length time.Duration
}

// The windows of each gauge, in days.
var (
	seenWindows      = days(1, 7, 14, 30, 90)
	signatureWindows = days(1, 3, 7, 14, 30)
	scanWindows      = days(1, 7, 30)
)

func days(lengths ...int) (w windows) {
	for _, n := range lengths {
		w = append(w, window{strconv.Itoa(n) + "d", time.Duration(n) * 24 * time.Hour})
	}
	return w
}

// maxAhead is how far the clock of a machine may be ahead.
const maxAhead = 24 * time.Hour

// holding returns how many of the windows hold a time. The zero time, and one that is
// more than maxAhead in the future, are unknown: no window holds them.
func (w windows) holding(at, now time.Time) (n uint8) {
	age := now.Sub(at)
	if at.IsZero() || age < -maxAhead {
		return 0
	}
	for i := len(w) - 1; i >= 0 && age <= w[i].length; i-- {
		n++
	}
	return n
}

// shortest returns the place of the shortest of n windows that hold a time.
func (w windows) shortest(n uint8) int { return len(w) - int(n) }

// label has the windows as its values.
func (w windows) label() boundedLabel {
	l := boundedLabel{name: "window"}
	for _, window := range w {
		l.preset = append(l.preset, window.name)
	}
	return l
}
