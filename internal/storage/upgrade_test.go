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

// version1 returns a directory with binary files of version 0.1, which end at the
// midnight at which a synctest bubble begins. They contain 3,000 calls of
// tid/app@host:443, one each 2.4 seconds, in a ring of 2,048 slots, and one call
// each of the tenants contoso and twin.
func version1(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/spent-1")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestUpgradeReadsBinarySpentCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := version1(t)
		var want []time.Time
		for i := 1524; i > 0; i-- { // 61 minutes.
			want = append(want, time.Now().Add(-time.Duration(i)*2400*time.Millisecond))
		}
		for range 2 {
			s, log := open(t, dir)
			s.Sweep([]string{"contoso"}, []string{"tid/app@host:443"})
			wantSpent(t, s.Ledger("tid/app@host:443"), client.DomainMachines, want...)
			wantSpent(t, s.Ledger("tid/app@host:443"), client.Machines)
			if log.String() != "" {
				t.Errorf("logged %s", log)
			}
			closeStorage(t, s)
			if slices.ContainsFunc(names(t, dir), func(name string) bool {
				return strings.HasPrefix(name, "tid_app") && !strings.HasSuffix(name, ".spent")
			}) {
				t.Errorf("the directory contains %v", names(t, dir))
			}
		}
		s, _ := open(t, dir)
		at := time.Now()
		s.Ledger("tid/app@host:443").Spend(client.DomainMachines, at)
		wantSpent(t, s.Ledger("tid/app@host:443"), client.DomainMachines, append(want, at)...)
	})
}

func TestFlippedBitInBinaryFormatNeverFreesQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for i := range 100 {
			dir := version1(t)
			path := onlyFile(t, dir, "contoso-*")
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			content[i] ^= 1 << (i % 8)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			s, _ := open(t, dir)
			s.Ledger("tid/app@host").Inherit(client.Machines, "contoso")
			got := s.Ledger("tid/app@host").Spent(client.Machines)
			if len(got) == 0 || got[0].Before(time.Now().Add(-3*time.Minute)) {
				t.Errorf("byte %d flipped: %v", i, got)
			}
			closeStorage(t, s)
		}
	})
}

func TestInvalidBinaryFileIsSetAside(t *testing.T) {
	dir := version1(t)
	path := onlyFile(t, dir, "contoso-*")
	if err := os.WriteFile(path, make([]byte, 32_832), 0o600); err != nil {
		t.Fatal(err)
	}
	s, log := open(t, dir)
	s.Ledger("tid/app@host").Inherit(client.Machines, "contoso")
	wantSpent(t, s.Ledger("tid/app@host"), client.Machines)
	if !strings.Contains(log.String(), "Set aside") {
		t.Errorf("logged %q", log)
	}
	if _, err := os.Stat(onlyFile(t, dir, filepath.Base(path)+".set-aside-*")); err != nil {
		t.Error(err)
	}
}

func TestInheritedCallsCountOnceAndFileIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := version1(t)
		now := time.Now()
		first, second, third := now.Add(-3*time.Minute), now.Add(-2*time.Minute), now.Add(-time.Minute)
		s, _ := open(t, dir)
		s.Ledger("tid/app@host:443").Spend(client.Machines, third)
		closeStorage(t, s)
		for range 2 {
			s, _ = open(t, dir)
			quota := s.Ledger("tid/app@host:443")
			for _, former := range []string{"contoso", "twin", "missing"} {
				quota.Inherit(client.Machines, former)
				quota.Inherit(client.DomainMachines, former)
			}
			wantSpent(t, quota, client.Machines, first, second, third)
			wantSpent(t, quota, client.DeviceAVInfo)
			quota.Spent(client.DomainMachines)
			closeStorage(t, s)
		}
		if got := names(t, dir); len(got) != 2 {
			t.Errorf("the directory contains %v, want the lock and the quota's file", got)
		}
	})
}

// A reload inherits while collectors spend calls. The race detector finds what is shared.
func TestInheritWhileCallsAreSpent(t *testing.T) {
	s, _ := open(t, t.TempDir())
	l := s.Ledger("tid/app@host")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			l.Spend(client.Machines, time.Now())
		}
	}()
	for range 20 {
		l.Inherit(client.Machines, "contoso")
	}
	<-done
	if n := len(l.Spent(client.Machines)); n != 20 {
		t.Errorf("%d calls, want 20", n)
	}
}
