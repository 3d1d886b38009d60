package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mde-exporter/mde_exporter/config"
)

func TestDemoAloneListensOnLoopback(t *testing.T) {
	const everywhere, loopback = ":10058", "127.0.0.1:10058"
	for _, test := range []struct {
		name, tenantID string
		args           []string
		want           []string
	}{
		{"only the demo", "", []string{"--demo"}, []string{loopback}},
		{"address given", "", []string{"--demo", "--web.listen-address=:10058"}, []string{everywhere}},
		{"addresses given", "", []string{"--demo", "--web.listen-address=:1", "--web.listen-address=:2"}, []string{":1", ":2"}},
		{"demo and file", "", []string{"--demo", "--config.file=mde.yml"}, []string{everywhere}},
		{"demo and environment", "00000000-0000-0000-0000-000000000000", []string{"--demo"}, []string{everywhere}},
		{"file", "", []string{"--config.file=mde.yml"}, []string{everywhere}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, variable := range os.Environ() {
				if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AZURE_") {
					t.Setenv(name, "")
				}
			}
			t.Setenv("AZURE_TENANT_ID", test.tenantID)
			f, err := parseFlags(test.args, io.Discard, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			sources := &tenantSources{flags: f}
			if f.demo {
				sources.demo = &config.Tenant{}
				sources.demo.Name = "demo"
			}
			sources.keepDemoLocal()
			if diff := cmp.Diff(test.want, *f.web.WebListenAddresses); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
		})
	}
}
