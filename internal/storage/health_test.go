package storage_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/internal/storage"
)

// TestRemovedOrReplacedDirectoryIsReopened removes, moves or replaces the
// directory while the storage is open.
func TestRemovedOrReplacedDirectoryIsReopened(t *testing.T) {
	for name, do := range map[string]func(t *testing.T, dir string){
		"removed": func(*testing.T, string) {},
		"removed and created again": func(t *testing.T, dir string) {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for _, moved := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, moved away %v", name, moved), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "storage")
				s, log := open(t, dir)
				save(t, s.Tenant("contoso"), "states", snapshotOf(1))
				save(t, s.Tenant("contoso"), "more", snapshotOf(2))
				s.Ledger("quota").Spend(client.Machines, time.Now())

				if moved {
					if err := os.Rename(dir, dir+".away"); err != nil {
						t.Fatal(err)
					}
				} else if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				do(t, dir)
				if got := load(t, s.Tenant("contoso"), "more"); got != nil {
					t.Errorf("loaded %v from a directory without files", got)
				}
				save(t, s.Tenant("contoso"), "states", snapshotOf(3))
				at := time.Now()
				s.Ledger("quota").Spend(client.Machines, at)
				if !s.Success() {
					t.Error("Success returned false after successful writes")
				}
				if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "opening it again") {
					t.Errorf("logged %s", log)
				}
				if _, err := storage.Open(dir, slog.New(slog.DiscardHandler)); err == nil {
					t.Error("the directory is not locked")
				}
				closeStorage(t, s)
				s, _ = open(t, dir)
				wantLoaded(t, s.Tenant("contoso"), "states", snapshotOf(3))
				wantSpent(t, s.Ledger("quota"), client.Machines, at)
			})
		}
	}
}

// TestWriteFailuresAreLoggedEvery15Minutes writes for an hour while a file blocks
// the directory's path.
func TestWriteFailuresAreLoggedEvery15Minutes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "storage")
	synctest.Test(t, func(t *testing.T) {
		s, log := open(t, dir)
		save(t, s.Tenant("contoso"), "old", snapshotOf(1))
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for i := range 1500 {
			for _, tenant := range []string{"contoso", "fabrikam"} {
				if err := s.Tenant(tenant).Save(fmt.Sprint("key ", i), snapshotOf(i)); err == nil {
					t.Fatal("Save succeeded without a directory")
				}
				if err := s.Tenant(tenant).Delete("old"); err == nil {
					t.Fatal("Delete succeeded without a directory")
				}
				s.Ledger(tenant).Spend(client.Machines, time.Now())
			}
			time.Sleep(2400 * time.Millisecond)
		}
		for _, kind := range []string{"Writing last values to", "Writing spent calls to"} {
			if n := strings.Count(log.String(), kind); n != 4 {
				t.Errorf("%q is logged %d times in an hour, want 4", kind, n)
			}
		}
		if s.Success() {
			t.Error("Success returned true after failed writes")
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		for _, tenant := range []string{"contoso", "fabrikam"} {
			save(t, s.Tenant(tenant), "new", snapshotOf(1))
			s.Ledger(tenant).Spend(client.Machines, time.Now())
		}
		for _, kind := range []string{"Writing last values succeeded again", "Writing spent calls succeeded again"} {
			if n := strings.Count(log.String(), kind); n != 1 {
				t.Errorf("%q is logged %d times, want once\n%s", kind, n, log)
			}
		}
		if !s.Success() {
			t.Error("Success returned false after successful writes")
		}
		closeStorage(t, s)
	})
}

func TestFailuresOfRemovedTenantsDoNotCount(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	save(t, s.Tenant("removed"), "states", snapshotOf(1))
	path := onlyFile(t, dir, "removed-*.values")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Tenant("removed").Save("states", snapshotOf(2)); err == nil || s.Success() {
		t.Fatalf("Save to a directory returned %v, success %v", err, s.Success())
	}
	s.Sweep([]string{"kept"}, nil)
	if !s.Success() {
		t.Error("Success returned false for a failure of a removed tenant")
	}
	var none *storage.Storage
	if none.Success() {
		t.Error("Success returned true for a nil Storage")
	}
}

func TestWriteFailures15MinutesApartAreAllLogged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "storage")
	synctest.Test(t, func(t *testing.T) {
		s, log := open(t, dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			s.Ledger("quota").Spend(client.Machines, time.Now())
			time.Sleep(15 * time.Minute)
		}
		if n := strings.Count(log.String(), "Writing spent calls to"); n != 4 {
			t.Errorf("logged %d times, want 4: %s", n, log)
		}
	})
}

func TestSpentCallsAreReadFromReplacedDirectory(t *testing.T) {
	dir, other := filepath.Join(t.TempDir(), "storage"), filepath.Join(t.TempDir(), "other")
	first := time.Now().Add(-time.Minute)
	second := first.Add(time.Second)
	for path, at := range map[string]time.Time{dir: first, other: second} {
		s, _ := open(t, path)
		s.Ledger("quota").Spend(client.Machines, at)
		closeStorage(t, s)
	}
	s, _ := open(t, dir)
	wantSpent(t, s.Ledger("quota"), client.Machines, first)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, dir); err != nil {
		t.Fatal(err)
	}
	wantSpent(t, s.Ledger("quota"), client.Machines, second)
}
