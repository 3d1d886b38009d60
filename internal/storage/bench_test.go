package storage_test

import (
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

// BenchmarkSpend measures the delay that storing a spent call adds to every API
// call.
func BenchmarkSpend(b *testing.B) {
	s, _ := open(b, b.TempDir())
	ledger := s.Ledger("00000000-0000-0000-0000-000000000000/00000000-0000-0000-0000-000000000000@api.security.microsoft.com:443")
	ledger.Spend(client.Machines, time.Now())
	var slowest time.Duration
	for b.Loop() {
		start := time.Now()
		ledger.Spend(client.Machines, start)
		slowest = max(slowest, time.Since(start))
	}
	b.ReportMetric(float64(slowest.Microseconds()), "µs/slowest")
}

// BenchmarkSpent measures a restart that reads an hour of calls at the documented
// limit.
func BenchmarkSpent(b *testing.B) {
	s, _ := open(b, b.TempDir())
	ledger := s.Ledger("tid/app@host")
	now := time.Now()
	for i := range 1500 {
		ledger.Spend(client.Machines, now.Add(time.Duration(i-1500)*2400*time.Millisecond))
	}
	for b.Loop() {
		if n := len(ledger.Spent(client.Machines)); n != 1500 {
			b.Fatalf("%d calls", n)
		}
	}
}
