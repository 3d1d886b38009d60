package collector

import (
	"errors"
	"fmt"
	"time"
)

// Wall strips the monotonic clock's reading from a time: ages are wall time, so
// that values do not outlive their age on a machine that was suspended.
func Wall(t time.Time) time.Time { return t.Round(0) }

// IsFresh reports whether values of that time, by the wall clock, may be served.
func IsFresh(at time.Time, maxAge time.Duration) bool { return time.Since(Wall(at)) < maxAge }

// CheckTime refuses the time of a stored result that is to come, as of a clock
// that was wrong, and one that is missing.
func CheckTime(at time.Time) error {
	switch {
	case at.IsZero():
		return errors.New("no time")
	case time.Until(at) > time.Minute:
		return fmt.Errorf("its time, %s, is still to come", at.UTC().Format(time.RFC3339))
	default:
		return nil
	}
}

// UnixSeconds is the value of a gauge that is a time.
func UnixSeconds(t time.Time) float64 {
	return float64(t.UnixMilli()) / 1000
}
