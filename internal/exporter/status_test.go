package exporter

import (
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/web"
)

func TestTheSummaryOfDomainsCountsOnlyWhatIsKnown(t *testing.T) {
	now := time.Now()
	contacted, quiet := web.Domain{Machines: 3, LastSuccess: now}, web.Domain{LastSuccess: now}
	withdrawn, never := web.Domain{LastSuccess: now, Withdrawn: true}, web.Domain{}
	invalid := web.Domain{Invalid: true}
	for _, test := range []struct {
		domains []web.Domain
		want    string
	}{
		{nil, "0 domains, 0 contacted"},
		{[]web.Domain{never, never}, "2 domains, 2 unknown"},
		{[]web.Domain{withdrawn, withdrawn}, "2 domains, 2 unknown"},
		{[]web.Domain{quiet, quiet}, "2 domains, 0 contacted"},
		{[]web.Domain{contacted, quiet, withdrawn, never, invalid}, "5 domains, 1 contacted, 2 unknown, 1 invalid"},
		{[]web.Domain{invalid}, "1 domains, 1 invalid"},
	} {
		if got := domainsSummary(test.domains); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}
