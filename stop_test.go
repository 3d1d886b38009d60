package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestSignalsEndAHangingProgram(t *testing.T) {
	for _, test := range []struct {
		name    string
		signals []time.Duration // Times of the signals.
		ends    time.Duration   // Time from the first signal to the end; zero means never.
		want    time.Duration
		code    int
		says    string
	}{
		{name: "stops in time", signals: []time.Duration{time.Hour}, ends: 3 * time.Second, want: time.Hour + 3*time.Second, code: 7},
		{name: "hangs", signals: []time.Duration{time.Hour}, want: time.Hour + stopTimeout, code: 1, says: "exiting anyway"},
		{name: "second signal", signals: []time.Duration{time.Hour, time.Hour + time.Second}, want: time.Hour + time.Second, code: 1, says: "second signal"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				signals, end := make(chan os.Signal, 2), make(chan struct{})
				for _, at := range test.signals {
					time.AfterFunc(at, func() { signals <- syscall.SIGTERM })
				}
				var stderr bytes.Buffer
				start := time.Now()
				code := supervise(signals, func(stop context.Context) int {
					<-stop.Done()
					if test.ends == 0 {
						<-end
					}
					time.Sleep(test.ends)
					return 7
				}, 1, &stderr)
				if took := time.Since(start); code != test.code || took != test.want {
					t.Errorf("code %d after %v, want %d after %v", code, took, test.code, test.want)
				}
				if !strings.Contains(stderr.String(), test.says) || test.says == "" && stderr.Len() > 0 {
					t.Errorf("stderr %q", &stderr)
				}
				close(end)
			})
		})
	}
}
