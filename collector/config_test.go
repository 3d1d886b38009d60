package collector_test

import (
	"testing"
	"time"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/collector"
)

func TestMaxAgeIsThreeIntervalsUnlessConfigured(t *testing.T) {
	for _, tc := range []struct{ interval, configured, want time.Duration }{
		{15 * time.Minute, 0, 45 * time.Minute},
		{15 * time.Minute, time.Hour, time.Hour},
	} {
		s := collector.Schedule{RefreshInterval: model.Duration(tc.interval), MaxAge: model.Duration(tc.configured)}
		s.DefaultMaxAge()
		if s.Age() != tc.want || s.Interval() != tc.interval {
			t.Errorf("max_age %s of interval %s: %s of %s, want %s", tc.configured, tc.interval, s.Age(), s.Interval(), tc.want)
		}
	}
}

func TestMistakeString(t *testing.T) {
	for want, m := range map[string]collector.Mistake{
		"mde.yml:1: name: missing": {File: "mde.yml", Line: 1, Key: "name", Message: "missing"},
		"mde.yml: name: missing":   {File: "mde.yml", Key: "name", Message: "missing"},
		"mde.yml:12: missing":      {File: "mde.yml", Line: 12, Message: "missing"},
		"mde.yml: missing":         {File: "mde.yml", Message: "missing"},
		"--demo: missing":          {Line: 3, Key: "--demo", Message: "missing"},
		"missing":                  {Message: "missing"},
	} {
		if got := m.String(); got != want {
			t.Errorf("%+v: %q, want %q", m, got, want)
		}
	}
}

func TestNumbersHaveThousandsSeparators(t *testing.T) {
	for n, want := range map[float64]string{
		0: "0", 7: "7", 999: "999", 1000: "1,000", 12345: "12,345", 1234567: "1,234,567", -7: "-7", -999: "-999", -1000: "-1,000", -123456: "-123,456",
		0.005: "0.01", 1234.5: "1,234.5", 99.999: "100",
	} {
		if got := collector.Number(n); got != want {
			t.Errorf("%v is %q, want %q", n, got, want)
		}
	}
}

func TestNounsOfCountsAreSingularOnlyForOne(t *testing.T) {
	for n, want := range map[int]string{0: "0 domains", 1: "1 domain", 2: "2 domains", 4321: "4,321 domains"} {
		if got := collector.Count(n, "domain"); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
