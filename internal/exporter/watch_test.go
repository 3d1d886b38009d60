package exporter

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestAWatchReloadsOnceForEachChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var reloads, looks atomic.Int32
		var changed atomic.Bool
		r := NewReloader(func() error {
			reloads.Add(1)
			changed.Store(false)
			return errors.New("mde.yml:3: unknown key")
		})
		go r.Run(ctx)
		go r.Watch(ctx, 30*time.Second, func(context.Context) bool {
			looks.Add(1)
			return changed.Load()
		})
		for range 2 {
			want := reloads.Load() + 1
			changed.Store(true)
			time.Sleep(time.Hour)
			synctest.Wait()
			if got := reloads.Load(); got != want {
				t.Errorf("%d reloads, want %d", got, want)
			}
		}
		if got := looks.Load(); got < 239 || got > 240 {
			t.Errorf("the configuration was compared %d times in two hours, want every 30s", got)
		}
		cancel()
	})
}
