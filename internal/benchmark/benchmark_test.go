package benchmark_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/mde-exporter/mde_exporter/internal/benchmark"
)

var ways = []benchmark.Way{benchmark.Nowhere, benchmark.Exporter, benchmark.Plain}

func TestMain(m *testing.M) {
	benchmark.Main(ways)
	os.Exit(m.Run())
}

// TestEachWayCountsTheWholeFleet runs a comparison as it is run for the figures,
// far end and processes included.
func TestEachWayCountsTheWholeFleet(t *testing.T) {
	far, err := benchmark.Listen(t.Context(), benchmark.FarOptions{Machines: 1_000})
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{benchmark.Preview, benchmark.Machines} {
		t.Run(source, func(t *testing.T) {
			var out bytes.Buffer
			c := benchmark.Comparison{Ways: ways, Source: source, Rounds: 1, Base: benchmark.Nowhere.Name}
			if err := c.Run(t.Context(), far, &out); err != nil {
				t.Fatal(err)
			}
			for _, way := range ways {
				if !strings.Contains(out.String(), "\n"+way.Name+"  ") {
					t.Errorf("%s is missing:\n%s", way.Name, out.String())
				}
			}
		})
	}
	t.Run("a way that fails is told", func(t *testing.T) {
		far := far
		far.ClientSecret = "another"
		_, err := benchmark.Run(t.Context(), benchmark.Task{Way: benchmark.Exporter.Name, Source: benchmark.Preview, Far: far})
		if err == nil || !strings.Contains(err.Error(), "AADSTS7000215") {
			t.Error(err)
		}
	})
}

// TestTheProgramIsSmall holds the released program to the bound that
// docs/performance.md gives.
func TestTheProgramIsSmall(t *testing.T) {
	p, err := benchmark.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if p.Bytes > 24_000_000 {
		t.Errorf("the stripped program has %d bytes", p.Bytes)
	}
}
