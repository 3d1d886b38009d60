package collector_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

func TestPeriodicServesLastResultUntilMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &collector.MemoryStore{}
		var fault error
		started := func() (*collectortest.World, collector.Collector, *collector.Refresher) {
			w := collectortest.NewWorld()
			env := w.Env("records")
			env.Store = store
			c := (&Config{Schedule: collector.Schedule{MaxAge: 3 * 3600e9}}).New(env).(*collector.Periodic[result])
			c.Read = func(context.Context) (result, error) { return result{7}, fault }
			return w, c, collector.NewRefresher(collector.RefresherOptions{
				Env:       collector.Env{Tenant: "contoso", Name: "records", Logger: w.Logger},
				Schedule:  collector.Schedule{RefreshInterval: model.Duration(time.Hour)},
				Collector: c, Exposition: w.Exposition,
			})
		}
		const series = `mde_records{tenant="contoso"}`
		w, c, r := started()
		if page := c.Page(); page.Summary != "" {
			t.Errorf("before anything was read the page says %q", page.Summary)
		}
		if err := r.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := w.Exposed(t); collectortest.Value(got, series) != "7" || c.Page().Summary != "7 records" {
			t.Errorf("page %+v, exposed:\n%s", c.Page(), got)
		}
		time.Sleep(time.Hour)
		fault = errors.New("scripted error")
		w, c, r = started()
		if err := r.Once(t.Context()); !errors.Is(err, fault) || !r.Ready() {
			t.Errorf("error %v, ready %v", err, r.Ready())
		}
		if got := w.Exposed(t); collectortest.Value(got, series) != "7" || c.Page().Summary != "7 records" {
			t.Errorf("after a restart and a failure, page %+v, exposed:\n%s", c.Page(), got)
		}
		time.Sleep(2 * time.Hour)
		if got := w.Exposed(t); collectortest.Value(got, series) != "" || !strings.Contains(c.Page().Summary, "withdrawn") {
			t.Errorf("when they are too old, page %+v, exposed:\n%s", c.Page(), got)
		}
		store.Values["records"] = `{"at":"2100-01-01T00:00:00Z","result":{}}`
		w, _, r = started()
		_ = r.Once(t.Context())
		if got := w.Exposed(t); got != "" || r.Ready() != true {
			t.Errorf("a stored result with a time in the future is exposed:\n%s", got)
		}
	})
}

func TestPeriodicIsReadyWhileStoredResultIsExposed(t *testing.T) {
	for age, want := range map[time.Duration]bool{time.Hour: true, 3*time.Hour - time.Second: true, 3 * time.Hour: false} {
		synctest.Test(t, func(t *testing.T) {
			store, w := &collector.MemoryStore{}, collectortest.NewWorld()
			if err := store.Save("records", map[string]any{"at": time.Now().Add(-age), "result": result{7}}); err != nil {
				t.Fatal(err)
			}
			env := w.Env("records")
			env.Store = store
			r := collector.NewRefresher(collector.RefresherOptions{
				Env: env, Schedule: collector.Schedule{RefreshInterval: model.Duration(time.Hour)}, StartDelay: time.Minute,
				Collector: (&Config{Schedule: collector.Schedule{MaxAge: model.Duration(3 * time.Hour)}}).New(env), Exposition: w.Exposition,
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go r.Run(ctx)
			synctest.Wait()
			if r.Ready() != want {
				t.Errorf("with a result of %s ago, before the first refresh, ready is %v", age, r.Ready())
			}
		})
	}
}

// TestContributingExampleMatchesCode compares CONTRIBUTING.md with example_test.go.
func TestContributingExampleMatchesCode(t *testing.T) {
	page, err := os.ReadFile("../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(code), "// The collector that CONTRIBUTING.md walks through.\n")
	if !strings.Contains(string(page), "```go\n"+strings.TrimSpace(example)+"\n```\n") {
		t.Error("the example of CONTRIBUTING.md is not the code of example_test.go")
	}
	var _ collector.Config = (*Config)(nil)
}
