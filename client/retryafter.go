package client

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter bounds what a service may ask to wait, so that a number nobody
// meant does not close an API for years.
const maxRetryAfter = 24 * time.Hour

// retryAfter reads a Retry-After header (RFC 9110, section 10.2.3): seconds, or
// a date. A date is held against the answer's own Date, so that a clock that is
// wrong on either side changes nothing. Zero means that the header asks for no
// wait or cannot be read.
func retryAfter(h http.Header) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if strings.Trim(text, "0123456789") == "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds > int(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
