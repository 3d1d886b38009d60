package exporter

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestReloadMetricsBeforeFirstLoadAndAfterFailures(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := newReloads(registry)
	scrape := func() map[string]float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		values := make(map[string]float64)
		for _, f := range families {
			values[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
		return values
	}
	const successful, lastSuccess = "mde_exporter_config_last_reload_successful", "mde_exporter_config_last_reload_success_timestamp_seconds"
	if got := scrape(); len(got) != 0 {
		t.Errorf("before the first attempt: %v", got)
	}
	r.record(errors.New("invalid"))
	if got := scrape(); len(got) != 1 || got[successful] != 0 {
		t.Errorf("after a failed first attempt: %v", got)
	}
	before := time.Now()
	r.record(nil)
	if got := scrape(); got[successful] != 1 || got[lastSuccess] < float64(before.Unix()) {
		t.Errorf("after a success: %v", got)
	}
	loaded := scrape()[lastSuccess]
	r.record(errors.New("invalid"))
	if got := scrape(); got[successful] != 0 || got[lastSuccess] != loaded {
		t.Errorf("after a failure: %v, want the time %v", got, loaded)
	}
}

func TestReloadTimestampIsInSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		time.Sleep(1500 * time.Millisecond)
		newReloads(registry).record(nil)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if v := f.GetMetric()[0].GetGauge().GetValue(); f.GetName() == "mde_exporter_config_last_reload_success_timestamp_seconds" && v != 946684801.5 {
				t.Errorf("timestamp %f of a load 1.5 seconds after midnight", v)
			}
		}
	})
}
