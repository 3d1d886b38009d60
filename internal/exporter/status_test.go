package exporter

import (
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
)

func TestThePageShowsNoWithdrawnStatesAsCurrent(t *testing.T) {
	at := time.Now()
	for want, s := range map[string]collector.StatesSummary{
		"":                                 {},
		"50 machines, 3 require attention": {At: at, Machines: 50, Requiring: 3},
		"values withdrawn: older than max_age 45m": {At: at, Machines: 50, Requiring: 3, Withdrawn: true},
	} {
		if got := statesSummary(s, 45*time.Minute); got != want {
			t.Errorf("%+v is shown as %q, want %q", s, got, want)
		}
	}
}
