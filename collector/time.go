package collector

import (
	"errors"
	"fmt"
	"time"
)

// Wall removes the monotonic clock reading from a time, so that ages include the time for
// which a machine was suspended.
func Wall(t time.Time) time.Time { return t.Round(0) }

// IsFresh reports whether values of that time are younger than maxAge by the wall clock.
func IsFresh(at time.Time, maxAge time.Duration) bool { return time.Since(Wall(at)) < maxAge }

// CheckTime returns an error if the time of a stored result is zero or in the future, as
// after a wrong clock.
func CheckTime(at time.Time) error {
	switch {
	case at.IsZero():
		return errors.New("no time")
	case time.Until(at) > time.Minute:
		return fmt.Errorf("its time %s is in the future", at.UTC().Format(time.RFC3339))
	default:
		return nil
	}
}

// UnixSeconds returns the value of a timestamp metric, in seconds.
func UnixSeconds(t time.Time) float64 {
	return float64(t.UnixMilli()) / 1000
}
