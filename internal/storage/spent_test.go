package storage_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/internal/storage"
)

func wantSpent(t testing.TB, ledger *storage.Ledger, api client.API, want ...time.Time) {
	t.Helper()
	got := ledger.Spent(api)
	if diff := cmp.Diff(want, got, cmp.Comparer(time.Time.Equal), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("Spent(%s) (-want +got):\n%s", api, diff)
	}
}

func TestSpentCallsSurviveRestart(t *testing.T) {
	dir := t.TempDir()
	s, log := open(t, dir)
	now := time.Now()
	first, second := now.Add(-time.Minute), now.Add(-time.Second)
	s.Ledger("contoso").Spend(client.DomainMachines, first)
	s.Ledger("contoso").Spend(client.DomainMachines, second)
	s.Ledger("contoso").Spend(client.Machines, second)
	s.Ledger("fabrikam").Spend(client.Machines, first)
	for range 2 {
		wantSpent(t, s.Ledger("contoso"), client.DomainMachines, first, second)
		wantSpent(t, s.Ledger("contoso"), client.Machines, second)
		wantSpent(t, s.Ledger("contoso"), client.DeviceAVInfo)
		wantSpent(t, s.Ledger("fabrikam"), client.Machines, first)
		closeStorage(t, s)
		s, _ = open(t, dir)
	}
	if log.String() != "" {
		t.Errorf("logged %s", log)
	}
}

func TestSpentCallsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t, t.TempDir())
		ledger, left := s.Ledger("contoso"), time.Now()
		ledger.Spend(client.Machines, left)
		time.Sleep(time.Hour + 30*time.Second)
		wantSpent(t, ledger, client.Machines, left)
		time.Sleep(30 * time.Second)
		wantSpent(t, ledger, client.Machines)
	})
}

func TestRestartsKeepAllCallsOfLastHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, log := open(t, dir)
		var all []time.Time
		for i := range 6161 {
			time.Sleep(2400 * time.Millisecond) // 1,500 calls an hour.
			now := time.Now()
			s.Ledger("contoso").Spend(client.DomainMachines, now)
			all = append(all, now)
			if i%500 == 0 || i > 6144 {
				closeStorage(t, s)
				s, _ = open(t, dir)
				lastHour := slices.DeleteFunc(slices.Clone(all), func(at time.Time) bool { return now.Sub(at) >= time.Hour+time.Minute })
				wantSpent(t, s.Ledger("contoso"), client.DomainMachines, lastHour...)
			}
		}
		// Two hours of calls at the documented limit, 75 bytes each.
		for _, name := range []string{"*.spent", "*.spent-earlier"} {
			if info, err := os.Stat(onlyFile(t, dir, name)); err != nil || info.Size() > 1600*75 {
				t.Errorf("file of spent calls: %v, %v", info, err)
			}
		}
		if log.String() != "" {
			t.Errorf("logged %s", log)
		}
	})
}

func TestLongRunKeepsTwoSmallFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, log := open(t, dir)
		var want []time.Time
		for range 5000 { // More than three hours.
			time.Sleep(2400 * time.Millisecond)
			s.Ledger("contoso").Spend(client.DomainMachines, time.Now())
			want = append(want, time.Now())
		}
		for _, name := range []string{"*.spent", "*.spent-earlier"} {
			if info, err := os.Stat(onlyFile(t, dir, name)); err != nil || info.Size() > 1600*75 {
				t.Errorf("file of spent calls: %v, %v", info, err)
			}
		}
		closeStorage(t, s)
		s, _ = open(t, dir)
		wantSpent(t, s.Ledger("contoso"), client.DomainMachines, want[len(want)-1525:]...)
		if log.String() != "" {
			t.Errorf("logged %s", log)
		}
	})
}

func TestSpentCallsMayBeAddedOutOfOrder(t *testing.T) {
	dir := t.TempDir()
	s, log := open(t, dir)
	now := time.Now()
	var want []time.Time
	for i := range 10 {
		s.Ledger("contoso").Spend(client.Machines, now.Add(-time.Duration(i)*time.Millisecond))
		want = append(want, now.Add(-time.Duration(i)*time.Millisecond))
	}
	slices.Reverse(want)
	wantSpent(t, s.Ledger("contoso"), client.Machines, want...)
	closeStorage(t, s)
	s, _ = open(t, dir)
	wantSpent(t, s.Ledger("contoso"), client.Machines, want...)
	if log.String() != "" {
		t.Errorf("logged %s", log)
	}
}

func TestMoreCallsThanTheLimitAreKept(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	now := time.Now()
	for i := range 3000 {
		at := now.Add(-10 * time.Minute)
		if i%2 == 0 {
			at = now.Add(-50 * time.Minute)
		}
		s.Ledger("contoso").Spend(client.Machines, at)
		if i == 2000 {
			closeStorage(t, s)
			s, _ = open(t, dir)
		}
	}
	if got := s.Ledger("contoso").Spent(client.Machines); len(got) != 3000 {
		t.Errorf("%d calls, want 3000", len(got))
	}
}

func TestClockSetBackBlocksQuotaForAnHourAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, _ := open(t, dir)
		start := time.Now()
		for i := range 100 {
			s.Ledger("contoso").Spend(client.Machines, start.Add(24*time.Hour+time.Duration(i)*time.Second))
		}
		closeStorage(t, s)

		s, log := open(t, dir)
		restarted := time.Now()
		want := slices.Repeat([]time.Time{restarted}, 100)
		wantSpent(t, s.Ledger("contoso"), client.Machines, want...)
		if !strings.Contains(log.String(), "100 calls in the future") {
			t.Errorf("logged %q", log)
		}
		// Restarts do not delay the expiry.
		for range 6 {
			time.Sleep(10 * time.Minute)
			closeStorage(t, s)
			s, _ = open(t, dir)
			wantSpent(t, s.Ledger("contoso"), client.Machines, want...)
		}
		time.Sleep(time.Minute)
		wantSpent(t, s.Ledger("contoso"), client.Machines)
	})
}

func TestCallsWithinClockToleranceAreUnchanged(t *testing.T) {
	dir := t.TempDir()
	s, log := open(t, dir)
	soon := time.Now().Add(30 * time.Second)
	s.Ledger("contoso").Spend(client.Machines, soon)
	closeStorage(t, s)
	s, _ = open(t, dir)
	wantSpent(t, s.Ledger("contoso"), client.Machines, soon)
	if log.String() != "" {
		t.Errorf("logged %s", log)
	}
}

// spentFile stores ten calls and returns their file and times.
func spentFile(t *testing.T, dir string) (path string, content []byte, times []time.Time) {
	t.Helper()
	s, _ := open(t, dir)
	now := time.Now()
	for i := range 10 {
		at := now.Add(time.Duration(i-20) * time.Second)
		s.Ledger("contoso").Spend(client.Machines, at)
		times = append(times, at)
	}
	closeStorage(t, s)
	path = onlyFile(t, dir, "*.spent")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, content, times
}

func TestFlippedBitInSpentCallsNeverFreesQuota(t *testing.T) {
	dir := t.TempDir()
	path, content, times := spentFile(t, dir)
	for i := 0; i < len(content); i += 2 {
		damaged := bytes.Clone(content)
		damaged[i] ^= 1 << (i % 8)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		s, log := open(t, dir)
		got := s.Ledger("contoso").Spent(client.Machines)
		// Each call is returned with its time or, if that is damaged, a later
		// one.
		if len(got) < len(times) || len(got) > len(times)+1 {
			t.Errorf("byte %d flipped: %d calls, want %d", i, len(got), len(times))
		}
		for n, at := range times {
			since := len(slices.DeleteFunc(slices.Clone(got), func(g time.Time) bool { return g.Before(at) }))
			if since < len(times)-n {
				t.Errorf("byte %d flipped: %d calls since %v, want %d", i, since, at, len(times)-n)
			}
		}
		if !strings.Contains(log.String(), "Repaired spent calls") {
			t.Errorf("byte %d flipped: logged %q", i, log)
		}
		closeStorage(t, s)

		s, log = open(t, dir)
		if reread := s.Ledger("contoso").Spent(client.Machines); len(reread) != len(got) || log.String() != "" {
			t.Errorf("byte %d flipped: after the repair %d calls, want %d; logged %q", i, len(reread), len(got), log)
		}
		closeStorage(t, s)
	}
}

func TestTruncatedSpentCallsKeepCompleteRecords(t *testing.T) {
	dir := t.TempDir()
	path, content, times := spentFile(t, dir)
	for length := 0; length <= len(content); length += 3 {
		if err := os.WriteFile(path, content[:length], 0o600); err != nil {
			t.Fatal(err)
		}
		s, log := open(t, dir)
		ledger := s.Ledger("contoso")
		complete := times[:max(0, bytes.Count(content[:length], []byte("\n"))-1)]
		// A part as long as the shortest record may be a call. It counts at the
		// latest possible time.
		part := length - 1 - bytes.LastIndexByte(content[:length], '\n')
		if got := ledger.Spent(client.Machines); part >= 53 && len(got) == len(complete)+1 {
			complete = append(slices.Clone(complete), got[len(complete)])
		}
		wantSpent(t, ledger, client.Machines, complete...)
		now := time.Now()
		ledger.Spend(client.Machines, now)
		closeStorage(t, s)
		wholeLines := length == 0 || content[length-1] == '\n'
		if logged := log.String() != ""; logged == wholeLines {
			t.Errorf("cut to %d bytes: logged %q", length, log)
		}
		s, _ = open(t, dir)
		wantSpent(t, s.Ledger("contoso"), client.Machines, append(slices.Clone(complete), now)...)
		closeStorage(t, s)
	}
}

func TestInvalidSpentCallsFileIsSetAside(t *testing.T) {
	for _, tc := range []struct {
		name    string
		content func(t *testing.T) []byte
	}{
		{"text of another program", func(*testing.T) []byte { return []byte("other text\n") }},
		{"a newer version", func(*testing.T) []byte { return append([]byte("mde_exporter spent 3\n"), make([]byte, 40000)...) }},
		{"zeros", func(*testing.T) []byte { return make([]byte, 30_000) }},
		{"noise of the right length", func(*testing.T) []byte {
			return bytes.Repeat([]byte("noise!\n"), 5000)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path, _, _ := spentFile(t, dir)
			content := tc.content(t)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			s, log := open(t, dir)
			wantSpent(t, s.Ledger("contoso"), client.Machines)
			now := time.Now()
			s.Ledger("contoso").Spend(client.Machines, now)
			wantSpent(t, s.Ledger("contoso"), client.Machines, now)
			if !strings.Contains(log.String(), "Set aside") {
				t.Errorf("logged %q", log)
			}
			setAside, err := os.ReadFile(onlyFile(t, dir, "*.spent.set-aside-*"))
			if err != nil || !bytes.Equal(setAside, content) {
				t.Errorf("the file set aside has changed, or %v", err)
			}
		})
	}
}

func TestSpentCallsOfAnotherOwnerAreIgnored(t *testing.T) {
	dir := t.TempDir()
	path, content, _ := spentFile(t, dir)
	s, _ := open(t, dir)
	s.Ledger("fabrikam").Spend(client.Machines, time.Now())
	closeStorage(t, s)
	now := time.Now()
	if err := os.WriteFile(onlyFile(t, dir, "fabrikam-*.spent"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s, log := open(t, dir)
	for _, at := range s.Ledger("fabrikam").Spent(client.Machines) {
		if at.Before(now.Add(-10 * time.Second)) {
			t.Errorf("counted a call of another owner at %v", at)
		}
	}
	if strings.Count(log.String(), "Set aside") != 1 {
		t.Errorf("logged %q", log)
	}
}

func TestUnwritableSpentCallsAreKeptInMemory(t *testing.T) {
	dir := t.TempDir()
	s, log := open(t, dir)
	ledger := s.Ledger("contoso")
	var want []time.Time
	spend := func() {
		at := time.Now()
		ledger.Spend(client.Machines, at)
		want = append(want, at)
	}
	spend()
	path := onlyFile(t, dir, "*.spent")
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	spend()
	spend()
	if got := strings.Count(log.String(), "level=ERROR"); got != 1 {
		t.Errorf("%d errors logged, want 1: %s", got, log)
	}
	save(t, s.Tenant("contoso"), "states", snapshotOf(1))
	if s.Success() {
		t.Error("Success returned true while spent calls cannot be written")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	spend()
	if !strings.Contains(log.String(), "succeeded again") || !s.Success() {
		t.Errorf("success %v, logged %q", s.Success(), log)
	}
	closeStorage(t, s)
	s, _ = open(t, dir)
	wantSpent(t, s.Ledger("contoso"), client.Machines, want...)
}

func ExampleStorage_Tenant() {
	dir, err := os.MkdirTemp("", "storage")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	s, err := storage.Open(dir, slog.Default())
	if err != nil {
		panic(err)
	}
	defer s.Close()

	contoso := s.Tenant("contoso")
	if err := contoso.Save("fleet/1", map[string]int{"machines": 4711}); err != nil {
		panic(err)
	}
	var fleet map[string]int
	found, err := contoso.Load("fleet/1", &fleet)
	fmt.Println(fleet, found, err)
	// Output: map[machines:4711] true <nil>
}

func TestCallMoreThanAMinuteAheadCountsNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, _ := open(t, dir)
		now := time.Now()
		s.Ledger("contoso").Spend(client.Machines, now.Add(time.Minute))
		s.Ledger("contoso").Spend(client.Machines, now.Add(time.Minute+time.Nanosecond))
		closeStorage(t, s)
		s, log := open(t, dir)
		wantSpent(t, s.Ledger("contoso"), client.Machines, now, now.Add(time.Minute))
		if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), `"0 damaged records, 1 calls in the future"`) {
			t.Errorf("logged %s", log)
		}
	})
}

// TestRepairedCallSurvivesFurtherDamage damages the record that a repair wrote. It
// names no API and is the shortest possible record.
func TestRepairedCallSurvivesFurtherDamage(t *testing.T) {
	dir := t.TempDir()
	path, _, times := spentFile(t, dir)
	for range 2 {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)-10]++ // In the time of the last call.
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s, _ := open(t, dir)
		for _, api := range []client.API{client.Machines, client.DomainMachines} {
			if got := s.Ledger("contoso").Spent(api); len(got) == 0 || time.Since(got[len(got)-1]) > 5*time.Second {
				t.Errorf("Spent(%s) lacks the damaged call: %v", api, got)
			}
		}
		if n := len(s.Ledger("contoso").Spent(client.Machines)); n != len(times) {
			t.Errorf("%d calls, want %d", n, len(times))
		}
		closeStorage(t, s)
	}
}
