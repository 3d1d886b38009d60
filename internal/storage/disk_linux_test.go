package storage_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/internal/storage"
)

// childEnv is set in child processes of the tests.
const childEnv = "MDE_STORAGE_TEST_CHILD"

// rerun returns a command that runs the current test again in a child process.
func rerun(t *testing.T, value string, attr *syscall.SysProcAttr) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), childEnv+"="+value)
	cmd.SysProcAttr = attr
	return cmd
}

// onSmallDisk runs the test on a small temporary file system, in a child process
// with its own mount namespace.
func onSmallDisk(t *testing.T, size string, test func(disk string)) {
	t.Helper()
	if os.Getenv(childEnv) != "" {
		disk := t.TempDir()
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Skipf("private mounts are unavailable: %v", err)
		}
		if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size="+size); err != nil {
			t.Skipf("mounting tmpfs is not possible: %v", err)
		}
		defer func() {
			if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
				t.Errorf("unmount: %v", err)
			}
		}()
		test(disk)
		return
	}
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := rerun(t, "disk", attr).CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skipf("mount namespaces are unavailable: %v", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if bytes.Contains(out, []byte("--- SKIP")) {
		t.Skipf("%s", out)
	}
}

// fill writes a file of the given size, or until the disk is full.
func fill(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for written := int64(0); written < size; written += int64(len(block)) {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestFullDiskKeepsStoredValues(t *testing.T) {
	onSmallDisk(t, "256k", func(disk string) {
		big := strings.Repeat("big", 5000)
		filler := filepath.Join(disk, "filler")
		s, log := open(t, disk)
		tenant, ledger := s.Tenant("contoso"), s.Ledger("contoso")
		save(t, tenant, "states", snapshotOf(1))
		spent := []time.Time{time.Now()}
		ledger.Spend(client.DomainMachines, spent[0])
		fill(t, filler, 1<<30)

		check := func() {
			t.Helper()
			for range 3 {
				if err := tenant.Save("states", big); !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("Save on a full disk returned %v, want ENOSPC", err)
				}
				wantLoaded(t, tenant, "states", snapshotOf(1))
				at := time.Now()
				ledger.Spend(client.DomainMachines, at)
				spent = append(spent, at)
				wantSpent(t, ledger, client.DomainMachines, spent...)
			}
			if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), "Writing last values to --storage.path failed") {
				t.Errorf("three failed writes are logged as %s", log)
			}
			if s.Success() {
				t.Error("Success returned true after a failed write")
			}
		}
		check()
		closeStorage(t, s)
		s, log = open(t, disk)
		tenant, ledger = s.Tenant("contoso"), s.Ledger("contoso")
		check()

		// A new file cannot be created now.
		late, other := time.Now(), s.Ledger("fabrikam")
		other.Spend(client.Machines, late)
		wantSpent(t, other, client.Machines, late)
		if got := strings.Count(log.String(), "level=ERROR"); got != 1 {
			t.Errorf("%d errors logged, want 1: %s", got, log)
		}

		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		save(t, tenant, "states", snapshotOf(2))
		later := time.Now()
		other.Spend(client.Machines, later)
		if !s.Success() || !strings.Contains(log.String(), "Writing last values succeeded again") {
			t.Errorf("success %v, logged %s", s.Success(), log)
		}
		closeStorage(t, s)
		s, log = open(t, disk)
		wantLoaded(t, s.Tenant("contoso"), "states", snapshotOf(2))
		wantSpent(t, s.Ledger("contoso"), client.DomainMachines, spent...)
		wantSpent(t, s.Ledger("fabrikam"), client.Machines, late, later)
		if log.String() != "" {
			t.Errorf("logged %s", log)
		}
	})
}

func TestFailedCompactionKeepsJournalUsable(t *testing.T) {
	onSmallDisk(t, "512k", func(disk string) {
		value := func(i int) string { return strings.Repeat(fmt.Sprint(i), 100_000) }
		s, log := open(t, disk)
		tenant := s.Tenant("contoso")
		save(t, tenant, "states", value(1))
		fill(t, filepath.Join(disk, "filler"), 160_000)
		for i := 2; i <= 3; i++ {
			save(t, tenant, "states", value(i))
		}
		var got string
		if ok, err := tenant.Load("states", &got); !ok || err != nil || got != value(3) {
			t.Errorf("Load = %.10q…, %v, %v", got, ok, err)
		}
		if !strings.Contains(log.String(), "Compacting storage file failed") {
			t.Errorf("logged %q", log)
		}
		if half, _ := filepath.Glob(filepath.Join(disk, ".*")); len(half) > 0 {
			t.Errorf("temporary files remain: %v", half)
		}
	})
}

func TestOpenFailsOnReadOnlyDisk(t *testing.T) {
	onSmallDisk(t, "256k", func(disk string) {
		s, _ := open(t, disk)
		save(t, s.Tenant("contoso"), "states", snapshotOf(1))
		closeStorage(t, s)
		if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		_, err := storage.Open(disk, slog.New(slog.DiscardHandler))
		if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), disk) {
			t.Errorf("Open of a read-only disk returned %v", err)
		}
	})
}

// asOtherUser runs the function with the file permissions of another user.
func asOtherUser(t *testing.T, function func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can act as another user")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // The thread ends with this goroutine, so no other goroutine runs as this user.
		const nobody = 65534
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETFSUID, nobody, 0, 0); errno != 0 {
			t.Errorf("setfsuid: %v", errno)
			return
		}
		function()
	}()
	<-done
}

func TestOpenFailsForDirectoryOfOtherUser(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	closeStorage(t, s)
	asOtherUser(t, func() {
		_, err := storage.Open(dir, slog.New(slog.DiscardHandler))
		if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), dir) {
			t.Errorf("Open returned %v", err)
		}
	})
}

func TestFilesOfOtherUserAreSetAside(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	save(t, s.Tenant("contoso"), "states", snapshotOf(1))
	s.Ledger("contoso").Spend(client.Machines, time.Now())
	closeStorage(t, s)
	for path, mode := range map[string]os.FileMode{dir: 0o777, filepath.Dir(dir): 0o755, filepath.Join(dir, "mde_exporter.lock"): 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	log := &logged{}
	asOtherUser(t, func() {
		s, err := storage.Open(dir, slog.New(slog.NewTextHandler(log, nil)))
		if err != nil {
			t.Errorf("Open: %v", err)
			return
		}
		defer s.Close()
		tenant, ledger := s.Tenant("contoso"), s.Ledger("contoso")
		if got := load(t, tenant, "states"); got != nil {
			t.Errorf("loaded %v", got)
		}
		wantSpent(t, ledger, client.Machines)
		if err := tenant.Save("states", snapshotOf(2)); err != nil {
			t.Errorf("Save: %v", err)
		}
		wantLoaded(t, tenant, "states", snapshotOf(2))
	})
	if got := strings.Count(log.String(), "Set aside"); got != 2 {
		t.Errorf("%d files set aside, want 2: %s", got, log)
	}
}

// writeUntilKilled runs in the child process. It prints each operation when it is
// done.
func writeUntilKilled(t *testing.T, dir string) {
	t.Helper()
	s, err := storage.Open(dir, slog.New(slog.NewTextHandler(os.Stdout, nil)))
	if err != nil {
		t.Fatal(err)
	}
	tenant, ledger := s.Tenant("contoso"), s.Ledger("contoso")
	for i := 1; ; i++ {
		at := time.Now()
		ledger.Spend(client.Machines, at)
		fmt.Printf("spent %d\n", at.UnixNano())
		if err := tenant.Save("states", padded(i)); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("saved %d\n", i)
	}
}

// padded returns a value that is large enough to cause frequent compaction.
func padded(n int) []string {
	return []string{fmt.Sprint(n), strings.Repeat(fmt.Sprint(n%10), 20_000)}
}

func TestKilledProcessKeepsStoredValues(t *testing.T) {
	if dir := os.Getenv(childEnv); dir != "" {
		writeUntilKilled(t, dir)
	}
	dir := t.TempDir()
	s, _ := open(t, dir)
	save(t, s.Tenant("contoso"), "steady", snapshotOf(7))
	closeStorage(t, s)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var spent []time.Time
	for range 8 {
		saved := 0
		cmd := rerun(t, dir, nil)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, killAt := bufio.NewScanner(out), 2+random.IntN(100)
		for n := 0; lines.Scan(); n++ {
			if n == killAt {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			var i int64
			if _, err := fmt.Sscanf(lines.Text(), "spent %d", &i); err == nil {
				spent = append(spent, time.Unix(0, i))
			} else if _, err := fmt.Sscanf(lines.Text(), "saved %d", &i); err == nil {
				saved = int(i)
			} else if !strings.HasPrefix(lines.Text(), "=== ") && !strings.Contains(lines.Text(), "damaged records") { // Caused by an earlier kill.
				t.Errorf("the child process printed: %s", lines.Text())
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child process ended before it was killed")
		}

		s, log := open(t, dir)
		tenant, ledger := s.Tenant("contoso"), s.Ledger("contoso")
		wantLoaded(t, tenant, "steady", snapshotOf(7))
		var got []string
		if ok, err := tenant.Load("states", &got); !ok || err != nil {
			t.Fatalf("Load = %v, %v; %d values were saved", ok, err, saved)
		}
		// It may have been killed after saving and before printing.
		if !cmp.Equal(got, padded(saved)) && !cmp.Equal(got, padded(saved+1)) {
			t.Errorf("loaded %.20q…, want what was saved as %d or %d", got, saved, saved+1)
		}
		stored := ledger.Spent(client.Machines)
		for _, at := range spent[max(0, len(spent)-1500):] {
			if len(stored) == 0 {
				t.Errorf("a call at %v is missing", at)
				break
			}
			for len(stored) > 0 && stored[0].Before(at) {
				stored = stored[1:]
			}
			if len(stored) == 0 || !stored[0].Equal(at) {
				t.Errorf("a call at %v is missing", at)
			}
		}
		if strings.Contains(log.String(), "file=contoso") && !strings.Contains(log.String(), "damaged records") {
			t.Errorf("logged %s", log)
		}
		if half, _ := filepath.Glob(filepath.Join(dir, ".*")); len(half) > 0 {
			t.Errorf("temporary files remain: %v", half)
		}
		closeStorage(t, s)
	}
}
