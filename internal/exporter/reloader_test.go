package exporter

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRequestsDuringReloadShareNextReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var reloads atomic.Int32
		mistake := errors.New("mde.yml:3: unknown key")
		r := NewReloader(func() error {
			time.Sleep(time.Minute)
			if reloads.Add(1) == 2 {
				return mistake
			}
			return nil
		})
		go r.Run(ctx)
		first := make(chan error, 1)
		go func() { first <- r.Reload(ctx) }()
		synctest.Wait()

		start := time.Now()
		var during sync.WaitGroup
		for range 100 {
			r.Request()
			during.Go(func() {
				if err := r.Reload(ctx); !errors.Is(err, mistake) {
					t.Errorf("a request during a reload returned %v, want the error of the next reload", err)
				}
			})
		}
		during.Wait()
		if err := <-first; err != nil {
			t.Errorf("the running reload returned %v", err)
		}
		if took := time.Since(start); took != 2*time.Minute {
			t.Errorf("100 requests took %v, want two reloads", took)
		}
		time.Sleep(time.Hour)
		if n := reloads.Load(); n != 2 {
			t.Errorf("%d reloads, want 2", n)
		}
		cancel()
	})
}

func TestReloadRequestEndsWithContextWhileReloadHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		hang := make(chan struct{})
		r := NewReloader(func() error { <-hang; return nil })
		go r.Run(ctx)
		for range 3 {
			start := time.Now()
			waitCtx, done := context.WithTimeout(ctx, 30*time.Second)
			if err := r.Reload(waitCtx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v, want that of the context", err)
			}
			done()
			if took := time.Since(start); took != 30*time.Second {
				t.Errorf("it took %v", took)
			}
			r.Request()
		}
		cancel()
		close(hang)
	})
}
