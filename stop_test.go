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

func TestASignalEndsAProgramThatHangs(t *testing.T) {
	for _, test := range []struct {
		name    string
		signals []time.Duration // When they come.
		ends    time.Duration   // After the first signal; zero means never.
		want    time.Duration
		code    int
		says    string
	}{
		{name: "it ends in time", signals: []time.Duration{time.Hour}, ends: 3 * time.Second, want: time.Hour + 3*time.Second, code: 7},
		{name: "it hangs", signals: []time.Duration{time.Hour}, want: time.Hour + stopTimeout, code: 1, says: "cut off"},
		{name: "a second signal", signals: []time.Duration{time.Hour, time.Hour + time.Second}, want: time.Hour + time.Second, code: 1, says: "second signal"},
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
					t.Errorf("it says %q", &stderr)
				}
				close(end)
			})
		})
	}
}
