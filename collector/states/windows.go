package states

import (
	"strconv"
	"time"
)

// windows are periods that end at the start of a refresh, the shortest first.
type windows []window

type window struct {
	name   string
	length time.Duration
}

// The windows of each gauge.
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

// maxAhead is the clock skew of a machine that is tolerated: times further in the
// future are invalid.
const maxAhead = 24 * time.Hour

// containing returns the number of windows that contain a time. It returns 0 for the
// zero time and for one more than maxAhead in the future.
func (w windows) containing(at, now time.Time) (n uint8) {
	age := now.Sub(at)
	if at.IsZero() || age < -maxAhead {
		return 0
	}
	for i := len(w) - 1; i >= 0 && age <= w[i].length; i-- {
		n++
	}
	return n
}

// shortest returns the index of the shortest of n windows that contain a time.
func (w windows) shortest(n uint8) int { return len(w) - int(n) }

// label returns a label with the window names as preset values.
func (w windows) label() boundedLabel {
	l := boundedLabel{name: "window"}
	for _, window := range w {
		l.preset = append(l.preset, window.name)
	}
	return l
}
