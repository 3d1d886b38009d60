package main

import (
	"os"
	"strings"
	"testing"

	"github.com/mde-exporter/mde_exporter/internal/benchmark"
)

func TestMain(m *testing.M) {
	benchmark.Main(ways)
	os.Exit(m.Run())
}

func TestEachProgramSeesEachMachineOfOnePage(t *testing.T) {
	var out strings.Builder
	if err := compare(t.Context(), &out, 300, 1); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "\njson_exporter  ") {
		t.Error(out.String())
	}
}
