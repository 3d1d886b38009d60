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

// spentSlots is how many calls the file holds, as docs/storage.md says.
const spentSlots = 2048

func wantSpent(t testing.TB, ledger *storage.Ledger, api client.API, want ...time.Time) {
	t.Helper()
	got := ledger.Spent(api)
	if diff := cmp.Diff(want, got, cmp.Comparer(time.Time.Equal), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("Spent(%s) (-want +got):\n%s", api, diff)
	}
}

func TestSpentCallsOutliveTheProcess(t *testing.T) {
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
		closeNow(t, s)
		s, _ = open(t, dir)
	}
	if log.String() != "" {
		t.Errorf("logged %s", log)
	}
}

func TestACallIsForgottenWhenNoLimitReachesItAnyMore(t *testing.T) {
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

func TestNoRestartLosesACallOfTheLastHourHoweverManyWereMadeBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, log := open(t, dir)
		var all []time.Time
		for i := range 3*spentSlots + 17 {
			time.Sleep(2400 * time.Millisecond) // 1,500 calls an hour.
			now := time.Now()
			s.Ledger("contoso").Spend(client.DomainMachines, now)
			all = append(all, now)
			if i%500 == 0 || i > 3*spentSlots {
				closeNow(t, s)
				s, _ = open(t, dir)
				lastHour := slices.DeleteFunc(slices.Clone(all), func(at time.Time) bool { return now.Sub(at) >= time.Hour+time.Minute })
				wantSpent(t, s.Ledger("contoso"), client.DomainMachines, lastHour...)
			}
		}
		if info, err := os.Stat(file(t, dir, "*.spent-*")); err != nil || info.Size() != 64+16*spentSlots {
			t.Errorf("file of spent calls: %v, %v", info, err)
		}
		if log.String() != "" {
			t.Errorf("logged %s", log)
		}
	})
}

func TestConcurrentCallsMayBeNotedOutOfOrder(t *testing.T) {
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
	closeNow(t, s)
	s, _ = open(t, dir)
	wantSpent(t, s.Ledger("contoso"), client.Machines, want...)
	if log.String() != "" {
		t.Errorf("logged %s", log)
	}
}

func TestAFullFileForgetsTheOldestCallsFirstWhateverTheirOrderInIt(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	now := time.Now()
	old, young := now.Add(-50*time.Minute), now.Add(-10*time.Minute)
	for i := range spentSlots {
		at := young
		if i%2 == 0 {
			at = old
		}
		s.Ledger("contoso").Spend(client.Machines, at.Add(time.Duration(i)))
	}
	closeNow(t, s)
	s, _ = open(t, dir)
	for range spentSlots / 2 {
		s.Ledger("contoso").Spend(client.Machines, now)
	}
	got := s.Ledger("contoso").Spent(client.Machines)
	if len(got) != spentSlots || got[0].Before(young) || got[spentSlots/2-1].After(young.Add(time.Second)) {
		t.Errorf("%d calls from %v to %v; want the young ones and the new ones", len(got), got[0], got[len(got)-1])
	}
}

func TestAClockThatWasSetBackStallsForAnHourAtMostAndOverspendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, _ := open(t, dir)
		start := time.Now()
		for i := range 100 {
			s.Ledger("contoso").Spend(client.Machines, start.Add(24*time.Hour+time.Duration(i)*time.Second))
		}
		closeNow(t, s)

		s, log := open(t, dir)
		restarted := time.Now()
		want := slices.Repeat([]time.Time{restarted}, 100)
		wantSpent(t, s.Ledger("contoso"), client.Machines, want...)
		if !strings.Contains(log.String(), "100 calls in the future") {
			t.Errorf("logged %q", log)
		}
		// However often the program starts again, the calls grow old.
		for range 6 {
			time.Sleep(10 * time.Minute)
			closeNow(t, s)
			s, _ = open(t, dir)
			wantSpent(t, s.Ledger("contoso"), client.Machines, want...)
		}
		time.Sleep(time.Minute)
		wantSpent(t, s.Ledger("contoso"), client.Machines)
	})
}

func TestACallAMomentAheadOfTheClockIsKeptAsItIs(t *testing.T) {
	dir := t.TempDir()
	s, log := open(t, dir)
	soon := time.Now().Add(30 * time.Second)
	s.Ledger("contoso").Spend(client.Machines, soon)
	closeNow(t, s)
	s, _ = open(t, dir)
	wantSpent(t, s.Ledger("contoso"), client.Machines, soon)
	if log.String() != "" {
		t.Errorf("logged %s", log)
	}
}

// spentFile notes ten calls and returns their file and their times.
func spentFile(t *testing.T, dir string) (path string, content []byte, times []time.Time) {
	t.Helper()
	s, _ := open(t, dir)
	now := time.Now()
	for i := range 10 {
		at := now.Add(time.Duration(i-20) * time.Second)
		s.Ledger("contoso").Spend(client.Machines, at)
		times = append(times, at)
	}
	closeNow(t, s)
	path = file(t, dir, "*.spent-machines")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, content, times
}

func TestAFlippedBitInSpentCallsNeverFreesQuota(t *testing.T) {
	dir := t.TempDir()
	path, content, times := spentFile(t, dir)
	used := 64 + 16*len(times)
	for i := range content {
		if i%3 != 0 && i < used || i > used+16 && i%4099 != 0 {
			continue
		}
		damaged := bytes.Clone(content)
		damaged[i] ^= 1 << (i % 8)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		s, log := open(t, dir)
		got := s.Ledger("contoso").Spent(client.Machines)
		// Each call is there with its time or, where that is lost, with a later one.
		if len(got) < len(times) || len(got) > len(times)+1 {
			t.Errorf("byte %d flipped: %d calls, want %d", i, len(got), len(times))
		}
		for n, at := range times {
			since := len(slices.DeleteFunc(slices.Clone(got), func(g time.Time) bool { return g.Before(at) }))
			if since < len(times)-n {
				t.Errorf("byte %d flipped: %d calls since %v, want %d", i, since, at, len(times)-n)
			}
		}
		if !strings.Contains(log.String(), "mended") {
			t.Errorf("byte %d flipped: logged %q", i, log)
		}
		closeNow(t, s)

		s, log = open(t, dir)
		if again := s.Ledger("contoso").Spent(client.Machines); len(again) != len(got) || log.String() != "" {
			t.Errorf("byte %d flipped: after mending %d calls, want %d; logged %q", i, len(again), len(got), log)
		}
		closeNow(t, s)
	}
}

func TestTruncatedSpentCallsKeepWhatIsLeft(t *testing.T) {
	dir := t.TempDir()
	path, content, times := spentFile(t, dir)
	for length := 0; length <= 64+16*len(times); length += 4 {
		if err := os.WriteFile(path, content[:length], 0o600); err != nil {
			t.Fatal(err)
		}
		s, log := open(t, dir)
		ledger := s.Ledger("contoso")
		whole := times[:max(0, length-64)/16]
		wantSpent(t, ledger, client.Machines, whole...)
		now := time.Now()
		ledger.Spend(client.Machines, now)
		closeNow(t, s)
		if log.String() == "" {
			t.Errorf("cut to %d bytes: nothing was logged", length)
		}
		s, _ = open(t, dir)
		wantSpent(t, s.Ledger("contoso"), client.Machines, append(slices.Clone(whole), now)...)
		closeNow(t, s)
	}
}

func TestAFileThatHoldsNoSpentCallsIsSetAsideAndKept(t *testing.T) {
	for _, tc := range []struct {
		name    string
		content func(t *testing.T) []byte
	}{
		{"text of someone else", func(*testing.T) []byte { return []byte("dear diary\n") }},
		{"a newer version", func(*testing.T) []byte { return append([]byte("mde_exporter spent 2\n"), make([]byte, 40000)...) }},
		{"nothing but zeros", func(*testing.T) []byte { return make([]byte, 64+16*spentSlots) }},
		{"noise of the right size", func(*testing.T) []byte {
			return bytes.Repeat([]byte("noise!"), (64+16*spentSlots)/6+1)[:64+16*spentSlots]
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
			kept, err := os.ReadFile(file(t, dir, "*.spent-machines.set-aside-*"))
			if err != nil || !bytes.Equal(kept, content) {
				t.Errorf("what was set aside has changed, or %v", err)
			}
		})
	}
}

func TestSpentCallsOfAnotherTenantOrAPIAreNotBelieved(t *testing.T) {
	dir := t.TempDir()
	path, content, _ := spentFile(t, dir)
	s, _ := open(t, dir)
	s.Ledger("fabrikam").Spend(client.Machines, time.Now())
	s.Ledger("contoso").Spend(client.DomainMachines, time.Now())
	closeNow(t, s)
	now := time.Now()
	for _, other := range []string{file(t, dir, "fabrikam-*.spent-machines"), file(t, dir, "contoso-*.spent-domain_machines")} {
		if err := os.WriteFile(other, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s, log := open(t, dir)
	for _, got := range [][]time.Time{s.Ledger("fabrikam").Spent(client.Machines), s.Ledger("contoso").Spent(client.DomainMachines)} {
		for _, at := range got {
			if at.Before(now.Add(-10 * time.Second)) {
				t.Errorf("believed a call of another's at %v", at)
			}
		}
	}
	if strings.Count(log.String(), "10 damaged slots") != 2 {
		t.Errorf("logged %q", log)
	}
}

func TestSpentCallsAreKeptInMemoryWhileTheirFileCannotBeWritten(t *testing.T) {
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
	path := file(t, dir, "*.spent-machines")
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
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	spend()
	if !strings.Contains(log.String(), "can be written again") {
		t.Errorf("logged %q", log)
	}
	closeNow(t, s)
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
