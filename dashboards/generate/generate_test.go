package main

import (
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"

	mde "github.com/mde-exporter/mde_exporter/dashboards"
)

func TestCommittedDashboardsAreTheGeneratedOnes(t *testing.T) {
	committed, err := fs.Glob(mde.Files, "*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(committed) != len(dashboards()) {
		t.Errorf("committed are %v, want the %d generated", committed, len(dashboards()))
	}
	for name, d := range dashboards() {
		got, err := fs.ReadFile(mde.Files, name)
		if err != nil {
			t.Errorf("read %s: %v; run go generate ./dashboards", name, err)
			continue
		}
		if diff := cmp.Diff(string(d.json()), string(got)); diff != "" {
			t.Errorf("%s is not what is generated; run go generate ./dashboards\n%s", name, diff)
		}
	}
}
