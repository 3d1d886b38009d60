package collector

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAFullDiskIsToldNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log syncBuffer
		m := newMemory(&memoryStore{fail: errors.New("no space left on device")}, slog.New(slog.NewTextHandler(&log, nil)))
		for i := range 1500 { // An hour of a long watch list.
			m.save(domainKey(fmt.Sprintf("d%d.example", i)), domainResult{})
			time.Sleep(2400 * time.Millisecond)
		}
		if n := strings.Count(log.String(), "no space left on device"); n < 2 || n > 6 {
			t.Errorf("%d lines in an hour, want a few", n)
		}
	})
}
