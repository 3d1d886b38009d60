package exporter

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
)

func TestProgressSumsTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newQuotaExporter(t, newService(), nil)
		defer w.Close()
		w.reload(entry("contoso", "tid", "app", 5, 10), entry("fabrikam", "tid-2", "app", 5, 20)+"  scores: {enabled: true}\n")
		for _, step := range []struct {
			after time.Duration
			done  int
		}{{time.Minute, 10}, {10 * time.Minute, 30}} {
			time.Sleep(step.after)
			synctest.Wait()
			if got, want := w.Progress(), (collector.Progress{Done: step.done, Total: 30, What: "watched domains asked"}); got != want {
				t.Errorf("after another %s the progress is %+v, want %+v", step.after, got, want)
			}
		}
	})
}
