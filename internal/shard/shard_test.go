package shard_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mde-exporter/mde_exporter/internal/shard"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The golden file must never change: shards of two versions run side by side
// during every rollout.
func TestShardAssignmentNeverChanges(t *testing.T) {
	tenants := []string{
		"", "contoso", "Contoso", "fabrikam", "tailspin toys", "日本", "\xff", strings.Repeat("long", 100),
		"00000000-0000-0000-0000-000000000000", "8f3c1d52-6a0e-4b7d-9c55-1f2e3d4c5b6a",
	}
	var got strings.Builder
	for _, total := range []int{1, 2, 3, 5, 10, 100, 1000} {
		for _, tenant := range tenants {
			fmt.Fprintf(&got, "%d %.20q %d\n", total, tenant, shard.Of(tenant, total))
		}
	}
	golden := filepath.Join("testdata", "shards.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("tenants would be served twice or not at all during a rollout (-want +got):\n%s", diff)
	}
}

func TestEveryTenantIsServedExactlyOnce(t *testing.T) {
	for _, total := range []int{-1, 0, 1, 2, 3, 7, 64} {
		for i := range 2000 {
			tenant := fmt.Sprintf("tenant-%d", i)
			owners := 0
			for s := range max(total, 1) {
				if shard.Of(tenant, total) == s {
					owners++
				}
			}
			if owners != 1 {
				t.Fatalf("%s has %d owners among %d shards, want 1", tenant, owners, total)
			}
		}
	}
}

func TestAddingShardMovesOnlyItsShare(t *testing.T) {
	const tenants = 20000
	for total := 1; total < 12; total++ {
		moved := 0
		for i := range tenants {
			tenant := fmt.Sprintf("tenant-%d", i)
			before, after := shard.Of(tenant, total), shard.Of(tenant, total+1)
			if before == after {
				continue
			}
			if after != total {
				t.Fatalf("%s moved from shard %d to %d although shard %d is the new one", tenant, before, after, total)
			}
			moved++
		}
		want := tenants / (total + 1)
		if moved < want*9/10 || moved > want*11/10 {
			t.Errorf("from %d to %d shards %d of %d tenants moved, want about %d", total, total+1, moved, tenants, want)
		}
	}
}

func TestShardsAreBalanced(t *testing.T) {
	const tenants, total = 20000, 10
	var load [total]int
	for i := range tenants {
		load[shard.Of(fmt.Sprintf("%032x", i), total)]++
	}
	for s, n := range load {
		if n < tenants/total*9/10 || n > tenants/total*11/10 {
			t.Errorf("shard %d serves %d tenants of %d, want about %d", s, n, tenants, tenants/total)
		}
	}
}

func TestOrdinalOf(t *testing.T) {
	for _, tc := range []struct {
		name, pod string
		want      int
		wantErr   string
	}{
		{name: "the first pod", pod: "mde-exporter-0", want: 0},
		{name: "a later pod", pod: "mde-exporter-12", want: 12},
		{name: "a set whose name ends in a number", pod: "mde-2-3", want: 3},
		{name: "a Deployment's pod", pod: "mde-exporter-6d4b75cb6d-hx2vq", wantErr: "does not end in an ordinal"},
		{name: "no dash", pod: "exporter0", wantErr: "not that of a StatefulSet's pod"},
		{name: "an empty name before the ordinal", pod: "-3", wantErr: "not that of a StatefulSet's pod"},
		{name: "no ordinal", pod: "mde-", wantErr: "does not end in an ordinal"},
		{name: "a leading zero, which Kubernetes never writes", pod: "mde-01", wantErr: "does not end in an ordinal"},
		{name: "a sign", pod: "mde-+1", wantErr: "does not end in an ordinal"},
		{name: "a number out of range", pod: "mde-99999999999", wantErr: "does not end in an ordinal"},
		{name: "an empty name", pod: "", wantErr: "not that of a StatefulSet's pod"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := shard.OrdinalOf(tc.pod)
			switch {
			case tc.wantErr == "" && err != nil:
				t.Fatalf("OrdinalOf(%q): %v", tc.pod, err)
			case tc.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tc.wantErr)):
				t.Fatalf("OrdinalOf(%q) error = %v, want %q", tc.pod, err, tc.wantErr)
			case got != tc.want:
				t.Errorf("OrdinalOf(%q) = %d, want %d", tc.pod, got, tc.want)
			}
		})
	}
}
