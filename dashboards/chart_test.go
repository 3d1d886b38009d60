package dashboards_test

import (
	"io/fs"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mde-exporter/mde_exporter/dashboards"
)

// Helm reads no file outside of a chart, so the chart has copies.
func TestTheChartHasTheseFiles(t *testing.T) {
	read := func(dir fs.FS) map[string]string {
		entries, err := fs.ReadDir(dir, ".")
		if err != nil {
			t.Fatal(err)
		}
		contents := map[string]string{}
		for _, entry := range entries {
			content, err := fs.ReadFile(dir, entry.Name())
			if err != nil {
				t.Fatal(err)
			}
			contents[entry.Name()] = string(content)
		}
		return contents
	}
	if diff := cmp.Diff(read(dashboards.Files), read(os.DirFS("../deploy/helm/mde-exporter/files/dashboards"))); diff != "" {
		t.Errorf("run make chart (-dashboards +chart):\n%s", diff)
	}
}
