package domains

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

// failingDomains is a Client whose lookups fail, except for the first ones.
type failingDomains struct {
	quickDomains
	err       error
	succeeded int

	mu    sync.Mutex
	calls int
}

func (f *failingDomains) DomainMachines(ctx context.Context, domain string) iter.Seq2[*client.Machine, error] {
	f.mu.Lock()
	f.calls++
	n := f.calls
	f.mu.Unlock()
	if n <= f.succeeded {
		return f.quickDomains.DomainMachines(ctx, domain)
	}
	return collectortest.RowsOf[client.Machine](f.err)
}

func TestOnceRunsFurtherRoundsOnlyIfAFailureMayPass(t *testing.T) {
	server := &client.Error{API: client.DomainMachines, Reason: client.ReasonServer, Status: 500}
	for name, tc := range map[string]struct {
		err                error
		domains, succeeded int
		rounds             int
		want               string
	}{
		"server error":                            {server, 100, 0, 4, " of 100 domains, the first of them "},
		"server error after a response":           {server, 100, 1, 8, " of 100 domains, the first of them "},
		"server error, all domains were queried":  {server, 5, 0, 1, "5 of 5 domains, the first of them "},
		"no permission":                           {&client.Error{API: client.DomainMachines, Reason: client.ReasonForbidden, Status: 403}, 100, 0, 1, "HTTP 403"},
		"rejected token":                          {&client.Error{API: client.DomainMachines, Reason: client.ReasonAuth, Status: 401}, 100, 0, 1, "HTTP 401"},
		"no token":                                {&client.Error{API: client.Token, Reason: client.ReasonServer, Status: 500}, 100, 0, 1, "HTTP 500"},
		"rejected token, one domain":              {&client.Error{API: client.DomainMachines, Reason: client.ReasonAuth, Status: 401}, 1, 0, 1, "1 of 1 domains, the first of them d00000.example"},
		"response that cannot be decoded, of all": {&client.Error{API: client.DomainMachines, Reason: client.ReasonDecode}, 100, 0, 1, "100 of 100 domains"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := collectortest.NewWorld()
				f := &failingDomains{err: tc.err, succeeded: tc.succeeded}
				d := newDomains(w, f, domainNames(tc.domains), func(o *Options) { o.Once = true })
				err := w.Refresher(d, time.Hour).Once(t.Context())
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error %v, want %q", err, tc.want)
				}
				if n := strings.Count(w.Log.String(), "Refresh failed"); n != tc.rounds {
					t.Errorf("%d rounds with %d lookups, want %d", n, f.calls, tc.rounds)
				}
			})
		})
	}
}

func TestStatisticsAreRequestedAgainAfterAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		f := &forbiddenStatistics{}
		start(t, w, newDomains(w, f, domainNames(1), func(o *Options) { o.Statistics, o.Interval = true, time.Hour }), time.Hour)
		time.Sleep(5*time.Hour + time.Minute)
		synctest.Wait()
		if f.calls != 6 {
			t.Errorf("requested %d times in five hours, want once per interval", f.calls)
		}
	})
}

// forbiddenStatistics is a Client without the role for statistics.
type forbiddenStatistics struct {
	quickDomains
	calls int
}

func (f *forbiddenStatistics) DomainStatistics(context.Context, string) (client.DomainStatistics, error) {
	f.calls++
	return client.DomainStatistics{}, fmt.Errorf("read: %w", errors.Join(&client.Error{API: client.DomainStats, Reason: client.ReasonForbidden, Status: 403}))
}
