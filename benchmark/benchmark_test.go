package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	doTask()
	os.Exit(m.Run())
}

// TestEachWayCountsTheWholeFleet runs the comparisons as they are run for the
// figures, far end and processes included.
func TestEachWayCountsTheWholeFleet(t *testing.T) {
	o := options{machines: 1_000, rounds: 1, sources: []string{preview, machines}}
	var out bytes.Buffer
	if err := refresh(t.Context(), o, &out); err != nil {
		t.Fatal(err)
	}
	for _, way := range ways {
		if strings.Count(out.String(), "\n"+way.name+"  ") != len(o.sources) {
			t.Errorf("want a row of %s for each source:\n%s", way.name, out.String())
		}
	}
	t.Run("the error of a way that fails is reported", func(t *testing.T) {
		f, stop, err := serve(t.Context(), farOptions{machines: 1_000, source: preview})
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		f.ClientSecret = "another"
		_, err = task{Way: exporter.name, Source: preview, Far: f}.run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "AADSTS7000215") {
			t.Error(err)
		}
	})
}

// TestTheProgramIsSmall holds the released program to the bound that
// docs/performance.md gives.
func TestTheProgramIsSmall(t *testing.T) {
	p, err := build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if p.bytes > 24_000_000 {
		t.Errorf("the stripped program has %d bytes", p.bytes)
	}
}
