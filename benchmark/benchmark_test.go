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

// TestAllReadersCountTheWholeFleet runs the comparison like the benchmark, with the
// simulated tenant and separate processes.
func TestAllReadersCountTheWholeFleet(t *testing.T) {
	o := options{machines: 1_000, rounds: 1, sources: []string{preview, machines}}
	var out bytes.Buffer
	if err := refresh(t.Context(), o, &out); err != nil {
		t.Fatal(err)
	}
	for _, way := range ways {
		if strings.Count(out.String(), "\n"+way.name+"  ") != len(o.sources) {
			t.Errorf("want a row of %q for each source:\n%s", way.name, out.String())
		}
	}
	t.Run("failing reader", func(t *testing.T) {
		f, stop, err := serve(t.Context(), tenantOptions{machines: 1_000, source: preview})
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		f.ClientSecret = "another"
		_, err = task{Way: exporter.name, Source: preview, Tenant: f}.run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "AADSTS7000215") {
			t.Error(err)
		}
	})
}

// TestProgramSize compares the size of the stripped program with the limit in
// docs/performance.md.
func TestProgramSize(t *testing.T) {
	p, err := build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if p.bytes > 24_000_000 {
		t.Errorf("stripped program has %d bytes", p.bytes)
	}
}
