package exporter

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestProgressSumsTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newQuotaExporter(t, newService(), nil)
		defer e.Close()
		e.reload(entry("contoso", "tid", "app", 5, 10), entry("fabrikam", "tid-2", "app", 5, 20)+"  scores: {enabled: true}\n")
		for _, step := range []struct {
			after time.Duration
			done  int
		}{{time.Minute, 10}, {10 * time.Minute, 30}} {
			time.Sleep(step.after)
			synctest.Wait()
			if got := e.Progress(); got.Done != step.done || got.Total != 30 || got.What == "" {
				t.Errorf("progress after another %s: %+v, want %d of 30", step.after, got, step.done)
			}
		}
	})
}
