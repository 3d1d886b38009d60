package storage_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

func TestSweepRemovesOnlyExpiredFiles(t *testing.T) {
	dir := t.TempDir()
	s, log := open(t, dir)
	for _, tenant := range []string{"kept", "removed", "removed-yesterday"} {
		save(t, s.Tenant(tenant), "states", snapshotOf(1))
	}
	for _, owner := range []string{"tid/kept@host", "tid/removed@host", "tid/removed-long@host"} {
		s.Ledger(owner).Spend(client.Machines, time.Now())
	}
	for name, content := range map[string]string{
		"notes.txt": "x", "removed-yesterday-0123456789abcdef.values": "of another program", "x-0123456789abcdef.values.set-aside-1": "x",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	age := func(d time.Duration, but ...string) {
		t.Helper()
		for _, name := range names(t, dir) {
			if slices.ContainsFunc(but, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
				continue
			}
			if err := os.Chtimes(filepath.Join(dir, name), time.Time{}, time.Now().Add(-d)); err != nil {
				t.Fatal(err)
			}
		}
	}
	sweep := func(removed ...string) {
		t.Helper()
		before := names(t, dir)
		s.Sweep([]string{"kept"}, []string{"tid/kept@host"})
		after := names(t, dir)
		for _, name := range before {
			isRemoved := slices.ContainsFunc(removed, func(prefix string) bool {
				return strings.HasPrefix(name, prefix) && name != "removed-yesterday-0123456789abcdef.values"
			})
			if slices.Contains(after, name) == isRemoved {
				t.Errorf("%s: removed %v, want %v", name, !isRemoved, isRemoved)
			}
		}
	}
	sweep()
	age(2*time.Hour, "tid_removed_host")
	sweep("tid_removed-long_host")
	age(25 * time.Hour)
	sweep("removed-", "removed-yesterday", "tid_removed_host")
	if n := strings.Count(log.String(), "Removed storage files"); n != 2 {
		t.Errorf("logged %s", log)
	}
	wantLoaded(t, s.Tenant("kept"), "states", snapshotOf(1))
	if got := load(t, s.Tenant("removed"), "states"); got != nil {
		t.Errorf("loaded %v", got)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestSweepRemovesValuesAfterADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, _ := open(t, dir)
		save(t, s.Tenant("removed"), "states", snapshotOf(1))
		if err := os.Chtimes(onlyFile(t, dir, "*.values"), time.Time{}, time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24*time.Hour - time.Nanosecond)
		s.Sweep(nil, nil)
		onlyFile(t, dir, "*.values")
		time.Sleep(time.Nanosecond)
		s.Sweep(nil, nil)
		if got := names(t, dir); len(got) != 1 {
			t.Errorf("the directory contains %v, want only the lock", got)
		}
	})
}
