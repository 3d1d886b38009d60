package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/internal/storage"
)

// snapshot is an example of a collector's value.
type snapshot struct {
	At       time.Time
	Machines map[string]int
}

func snapshotOf(n int) snapshot {
	return snapshot{At: time.Unix(int64(n), 0).UTC(), Machines: map[string]int{"26100": n, "22631": 2 * n}}
}

// open opens the storage and returns it with its log.
func open(t testing.TB, dir string) (*storage.Storage, *logged) {
	t.Helper()
	log := &logged{}
	s, err := storage.Open(dir, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Errorf("Close: %v", err)
		}
	})
	return s, log
}

type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func closeStorage(t testing.TB, s *storage.Storage) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func save(t testing.TB, tenant *storage.Tenant, key string, v any) {
	t.Helper()
	if err := tenant.Save(key, v); err != nil {
		t.Fatalf("Save(%q): %v", key, err)
	}
}

// load returns the value of the key, or nil.
func load(t testing.TB, tenant *storage.Tenant, key string) *snapshot {
	t.Helper()
	var v snapshot
	ok, err := tenant.Load(key, &v)
	if err != nil {
		t.Fatalf("Load(%q): %v", key, err)
	}
	if !ok {
		return nil
	}
	return &v
}

func wantLoaded(t testing.TB, tenant *storage.Tenant, key string, want snapshot) {
	t.Helper()
	if diff := cmp.Diff(&want, load(t, tenant, key)); diff != "" {
		t.Errorf("Load(%q) (-want +got):\n%s", key, diff)
	}
}

// onlyFile returns the only file in the directory whose name matches.
func onlyFile(t testing.TB, dir, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(names) != 1 {
		t.Fatalf("files %s: %v, %v; want one", pattern, names, err)
	}
	return names[0]
}

func TestValuesSurviveRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "created", "on", "demand")
	s, log := open(t, dir)
	contoso, fabrikam := s.Tenant("contoso"), s.Tenant("fabrikam")
	save(t, contoso, "states", snapshotOf(1))
	save(t, contoso, "states", snapshotOf(2))
	save(t, contoso, "domain/evil.example", snapshotOf(3))
	save(t, contoso, "domain/gone.example", snapshotOf(4))
	if err := contoso.Delete("domain/gone.example"); err != nil {
		t.Fatal(err)
	}
	if err := contoso.Delete("never there"); err != nil {
		t.Fatal(err)
	}
	save(t, fabrikam, "states", snapshotOf(5))
	check := func(s *storage.Storage) {
		t.Helper()
		wantLoaded(t, s.Tenant("contoso"), "states", snapshotOf(2))
		wantLoaded(t, s.Tenant("contoso"), "domain/evil.example", snapshotOf(3))
		wantLoaded(t, s.Tenant("fabrikam"), "states", snapshotOf(5))
		if got := load(t, s.Tenant("contoso"), "domain/gone.example"); got != nil {
			t.Errorf("a deleted value is loaded: %v", got)
		}
		keys, err := s.Tenant("contoso").Keys("domain/")
		if diff := cmp.Diff([]string{"domain/evil.example"}, keys); diff != "" || err != nil {
			t.Errorf("Keys (-want +got): %v\n%s", err, diff)
		}
	}
	check(s)
	closeStorage(t, s)
	s, _ = open(t, dir)
	check(s)
	if log.String() != "" {
		t.Errorf("logged %s", log)
	}
}

func TestFilesAreAccessibleToOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "storage")
	s, _ := open(t, dir)
	save(t, s.Tenant("contoso"), "states", snapshotOf(1))
	s.Ledger("contoso").Spend(client.Machines, time.Now())
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if entry.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnyTenantNameAndKeyIsAccepted(t *testing.T) {
	dir := t.TempDir()
	names := []string{
		"", ".", "..", "../../etc/passwd", "/", "a/b", "a\\b", "contoso", "Contoso", "CONTOSO", "con", "NUL",
		"日本", "日本の", "\x00", "\xff\xfe", "two\nlines", `"quoted"`, strings.Repeat("long", 1000), strings.Repeat("long", 1000) + "!",
	}
	s, _ := open(t, dir)
	for i, name := range names {
		for j, key := range names {
			save(t, s.Tenant(name), key, snapshotOf(100*i+j))
		}
		s.Ledger(name).Spend(client.Machines, time.Now().Add(-time.Duration(i)*time.Second))
	}
	closeStorage(t, s)
	s, log := open(t, dir)
	for i, name := range names {
		for j, key := range names {
			wantLoaded(t, s.Tenant(name), key, snapshotOf(100*i+j))
		}
		if got := s.Ledger(name).Spent(client.Machines); len(got) != 1 {
			t.Errorf("tenant %q has spent %d calls, want 1", name, len(got))
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	folded := make(map[string]bool)
	for _, f := range files {
		if strings.Trim(f.Name(), "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || len(f.Name()) > 100 {
			t.Errorf("file name %q is not valid on every file system", f.Name())
		}
		folded[strings.ToLower(f.Name())] = true
	}
	if want := 2*len(names) + 1; len(folded) != want {
		t.Errorf("%d distinct files ignoring case, want %d", len(folded), want)
	}
	if log.String() != "" {
		t.Errorf("logged %s", log)
	}
}

func TestFailedLoadLeavesVariableUnchanged(t *testing.T) {
	s, _ := open(t, t.TempDir())
	tenant := s.Tenant("contoso")
	save(t, tenant, "other", map[string]any{"At": "1970-01-01T00:00:01Z", "Machines": "not a map"})
	for _, key := range []string{"missing", "other"} {
		got := snapshotOf(7)
		ok, err := tenant.Load(key, &got)
		if ok || (err != nil) != (key == "other") {
			t.Errorf("Load(%q) = %v, %v", key, ok, err)
		}
		if diff := cmp.Diff(snapshotOf(7), got); diff != "" {
			t.Errorf("Load(%q) changed the variable (-want +got):\n%s", key, diff)
		}
	}
}

func TestSaveOfUnencodableValueKeepsPreviousValue(t *testing.T) {
	s, _ := open(t, t.TempDir())
	save(t, s.Tenant("contoso"), "states", snapshotOf(1))
	if err := s.Tenant("contoso").Save("states", func() {}); err == nil {
		t.Error("Save of a function succeeded")
	}
	wantLoaded(t, s.Tenant("contoso"), "states", snapshotOf(1))
}

func TestJournalIsCompacted(t *testing.T) {
	dir := t.TempDir()
	s, log := open(t, dir)
	tenant := s.Tenant("contoso")
	for i := range 200 {
		save(t, tenant, fmt.Sprintf("domain/%d", i), snapshotOf(i))
	}
	for i := range 5000 {
		save(t, tenant, "states", snapshotOf(i))
	}
	if err := tenant.Delete("domain/7"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(onlyFile(t, dir, "contoso-*.values"))
	if err != nil {
		t.Fatal(err)
	}
	// 200 values of about 90 bytes, and at most 64 KiB of old records.
	if info.Size() > 128<<10 {
		t.Errorf("the journal has %d bytes", info.Size())
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the compacted journal has mode %v", info.Mode().Perm())
	}
	check := func(tenant *storage.Tenant) {
		t.Helper()
		wantLoaded(t, tenant, "states", snapshotOf(4999))
		for i := range 200 {
			if i != 7 {
				wantLoaded(t, tenant, fmt.Sprintf("domain/%d", i), snapshotOf(i))
			}
		}
		if got := load(t, tenant, "domain/7"); got != nil {
			t.Errorf("a deleted value is loaded: %v", got)
		}
	}
	check(tenant)
	closeStorage(t, s)
	s, _ = open(t, dir)
	check(s.Tenant("contoso"))
	if log.String() != "" {
		t.Errorf("logged %s", log)
	}
}

func TestTenantIsSafeForConcurrentUse(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			tenant := s.Tenant("contoso")
			key := fmt.Sprintf("key %d", g)
			for i := range 200 {
				if err := tenant.Save(key, snapshotOf(i)); err != nil {
					t.Error(err)
				}
				var got snapshot
				if ok, err := tenant.Load(key, &got); !ok || err != nil || got.Machines["26100"] != i {
					t.Errorf("Load = %v, %v, %v; want %d", got, ok, err, i)
				}
				s.Ledger("contoso").Spend(client.Machines, time.Now())
			}
		})
	}
	group.Wait()
	closeStorage(t, s)
	s, log := open(t, dir)
	for g := range 8 {
		wantLoaded(t, s.Tenant("contoso"), fmt.Sprintf("key %d", g), snapshotOf(199))
	}
	if got := len(s.Ledger("contoso").Spent(client.Machines)); got != 1600 {
		t.Errorf("%d calls spent, want 1600", got)
	}
	if log.String() != "" {
		t.Errorf("logged %s", log)
	}
}

func TestTenantsKeepNoFileOpen(t *testing.T) {
	before := openFiles(t)
	s, _ := open(t, t.TempDir())
	for i := range 300 {
		tenant := s.Tenant(fmt.Sprintf("tenant-%d", i))
		save(t, tenant, "states", snapshotOf(i))
		s.Ledger(fmt.Sprintf("tenant-%d", i)).Spend(client.Machines, time.Now())
	}
	if after := openFiles(t); after > before+5 {
		t.Errorf("%d files open, %d before", after, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("open files cannot be counted here: %v", err)
	}
	return len(entries)
}

func TestDirectoryIsLocked(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	if _, err := storage.Open(dir, slog.New(slog.DiscardHandler)); !errors.Is(err, storage.ErrInUse) {
		t.Errorf("a second Open returned %v, want ErrInUse", err)
	}
	save(t, s.Tenant("contoso"), "states", snapshotOf(1))
	closeStorage(t, s)
	s, _ = open(t, dir)
	wantLoaded(t, s.Tenant("contoso"), "states", snapshotOf(1))
}

func TestSaveAfterCloseFails(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	tenant := s.Tenant("contoso")
	save(t, tenant, "states", snapshotOf(1))
	closeStorage(t, s)
	if err := tenant.Save("states", snapshotOf(2)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Save after Close returned %v, want os.ErrClosed", err)
	}
	s, _ = open(t, dir)
	wantLoaded(t, s.Tenant("contoso"), "states", snapshotOf(1))
}

func TestOpenFailsForUnusablePath(t *testing.T) {
	notADirectory := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notADirectory, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{notADirectory, filepath.Join(notADirectory, "below")} {
		_, err := storage.Open(dir, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), notADirectory) {
			t.Errorf("Open(%s): %v", dir, err)
		}
	}
	if content, err := os.ReadFile(notADirectory); string(content) != "precious" {
		t.Errorf("the file now contains %q, %v", content, err)
	}
}

func TestForeignFilesAreLeftUnchanged(t *testing.T) {
	dir := t.TempDir()
	foreign := map[string]string{
		"photo.jpg": "precious", ".hidden123": "precious", "data.values": "precious", ".contoso.values77": "precious",
	}
	for name, content := range foreign {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, log := open(t, dir)
	save(t, s.Tenant("contoso"), "states", snapshotOf(1))
	closeStorage(t, s)
	for name, want := range foreign {
		if got, err := os.ReadFile(filepath.Join(dir, name)); string(got) != want {
			t.Errorf("%s now contains %q, %v", name, got, err)
		}
	}
	if log.String() != "" {
		t.Errorf("logged %s", log)
	}
}

func TestOpenRemovesTemporaryFiles(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	save(t, s.Tenant("contoso"), "states", snapshotOf(1))
	s.Ledger("contoso").Spend(client.DomainMachines, time.Now())
	closeStorage(t, s)
	for _, pattern := range []string{"*.values", "*.spent"} {
		half := filepath.Join(dir, "."+filepath.Base(onlyFile(t, dir, pattern))+"8675309")
		if err := os.WriteFile(half, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		s, _ := open(t, dir)
		if _, err := os.Stat(half); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s still exists", half)
		}
		wantLoaded(t, s.Tenant("contoso"), "states", snapshotOf(1))
		closeStorage(t, s)
	}
}

func TestInvalidJournalIsSetAside(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(path string) error
		want    string
	}{
		{
			name:    "text of another program",
			prepare: func(path string) error { return os.WriteFile(path, []byte("other text\n"), 0o600) },
			want:    "not a file of mde_exporter",
		},
		{
			name:    "binary without line ends",
			prepare: func(path string) error { return os.WriteFile(path, make([]byte, 1<<20), 0o600) },
			want:    "not a file of mde_exporter",
		},
		{
			name: "a newer version",
			prepare: func(path string) error {
				return os.WriteFile(path, []byte("mde_exporter values 2 \"contoso\"\nnewer records\n"), 0o600)
			},
			want: "format version 2 is newer than this program's 1",
		},
		{
			name: "another tenant's",
			prepare: func(path string) error {
				return os.WriteFile(path, []byte("mde_exporter values 1 \"fabrikam\"\n"), 0o600)
			},
			want: "names another tenant",
		},
		{
			name:    "a directory",
			prepare: func(path string) error { return os.Mkdir(path, 0o700) },
			want:    "not a regular file",
		},
		{
			name:    "a symbolic link",
			prepare: func(path string) error { return os.Symlink("/etc/hostname", path) },
			want:    "not a regular file",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			s, _ := open(t, dir)
			save(t, s.Tenant("contoso"), "states", snapshotOf(1))
			closeStorage(t, s)
			path := onlyFile(t, dir, "*.values")
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := tc.prepare(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}

			s, log := open(t, dir)
			if got := load(t, s.Tenant("contoso"), "states"); got != nil {
				t.Errorf("loaded %v", got)
			}
			save(t, s.Tenant("contoso"), "states", snapshotOf(2))
			wantLoaded(t, s.Tenant("contoso"), "states", snapshotOf(2))
			if !strings.Contains(log.String(), tc.want) || !strings.Contains(log.String(), "Set aside") {
				t.Errorf("logged %q, want %q", log, tc.want)
			}
			after, err := os.Lstat(onlyFile(t, dir, "*.values.set-aside-*"))
			if err != nil || after.Size() != before.Size() || after.Mode() != before.Mode() {
				t.Errorf("set aside %v, %v; was %v", after, err, before)
			}
		})
	}
}

// journalOf writes a journal with several versions of its values. It returns the
// journal and all values that each key ever had.
func journalOf(t testing.TB, dir string) (path string, content []byte, history map[string][]snapshot) {
	t.Helper()
	s, _ := open(t, dir)
	tenant := s.Tenant("contoso")
	history = make(map[string][]snapshot)
	for i, key := range []string{"states", "domain/a", "states", "domain/b", "domain/a"} {
		save(t, tenant, key, snapshotOf(i))
		history[key] = append(history[key], snapshotOf(i))
	}
	if err := tenant.Delete("domain/b"); err != nil {
		t.Fatal(err)
	}
	closeStorage(t, s)
	path = onlyFile(t, dir, "*.values")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, content, history
}

// checkDamaged opens a directory with a damaged journal. It checks that every
// loaded value was once saved under its key, and that new values can be saved. It
// returns whether a warning was logged.
func checkDamaged(t testing.TB, dir string, history map[string][]snapshot, what string) (warned bool) {
	t.Helper()
	s, log := open(t, dir)
	tenant := s.Tenant("contoso")
	for key, values := range history {
		got := load(t, tenant, key)
		if got == nil {
			continue
		}
		if !slices.ContainsFunc(values, func(v snapshot) bool { return cmp.Equal(v, *got) }) {
			t.Errorf("%s: %s was never %v", what, key, *got)
		}
	}
	save(t, tenant, "states", snapshotOf(99))
	closeStorage(t, s)
	s, _ = open(t, dir)
	defer closeStorage(t, s)
	if got := load(t, s.Tenant("contoso"), "states"); got == nil || !cmp.Equal(*got, snapshotOf(99)) {
		t.Errorf("%s: a value saved later is %v", what, got)
	}
	return strings.Contains(log.String(), "level=WARN")
}

func TestTruncatedJournalNeverReturnsWrongValue(t *testing.T) {
	dir := t.TempDir()
	path, content, history := journalOf(t, dir)
	for length := range content {
		if err := os.WriteFile(path, content[:length], 0o600); err != nil {
			t.Fatal(err)
		}
		warned := checkDamaged(t, dir, history, fmt.Sprintf("cut to %d bytes", length))
		wholeLines := length == 0 || content[length-1] == '\n'
		if warned == wholeLines {
			t.Errorf("cut to %d bytes: warned = %v", length, warned)
		}
	}
}

func TestFlippedBitNeverReturnsWrongValue(t *testing.T) {
	dir := t.TempDir()
	path, content, history := journalOf(t, dir)
	for i := range content {
		damaged := bytes.Clone(content)
		damaged[i] ^= 1 << (i % 8)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		what := fmt.Sprintf("bit %d of byte %d flipped", i%8, i)
		if !checkDamaged(t, dir, history, what) {
			t.Errorf("%s: nothing was logged", what)
		}
	}
}

func TestRandomDamageNeverReturnsWrongValue(t *testing.T) {
	dir := t.TempDir()
	path, content, history := journalOf(t, dir)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 150 {
		damaged := bytes.Clone(content)
		a, b := random.IntN(len(damaged)+1), random.IntN(len(damaged)+1)
		from, to := min(a, b), max(a, b)
		switch random.IntN(4) {
		case 0: // Zeros, as after a power loss.
			clear(damaged[from:to])
		case 1: // A part is missing.
			damaged = slices.Delete(damaged, from, to)
		case 2: // A part is duplicated.
			damaged = slices.Insert(damaged, from, content[from:to]...)
		case 3: // Random bytes.
			for i := from; i < to; i++ {
				damaged[i] = byte(random.Uint32())
			}
		}
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		checkDamaged(t, dir, history, fmt.Sprintf("damaged journal %q", damaged))
	}
}

func TestJournalChangedByAnotherProgramIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	s, log := open(t, dir)
	tenant := s.Tenant("contoso")
	save(t, tenant, "a", snapshotOf(1))
	save(t, tenant, "b", snapshotOf(2))
	path := onlyFile(t, dir, "*.values")

	if err := os.Truncate(path, 10); err != nil {
		t.Fatal(err)
	}
	var got snapshot
	if ok, err := tenant.Load("b", &got); ok || err == nil {
		t.Errorf("Load of a truncated value = %v, %v", ok, err)
	}
	save(t, tenant, "a", snapshotOf(3))
	wantLoaded(t, tenant, "a", snapshotOf(3))
	if got := load(t, tenant, "b"); got != nil {
		t.Errorf("loaded %v, which was truncated", got)
	}

	if err := os.Remove(onlyFile(t, dir, "*.values")); err != nil {
		t.Fatal(err)
	}
	save(t, tenant, "b", snapshotOf(4))
	wantLoaded(t, tenant, "b", snapshotOf(4))
	closeStorage(t, s)
	s, _ = open(t, dir)
	wantLoaded(t, s.Tenant("contoso"), "b", snapshotOf(4))
	if !strings.Contains(log.String(), "changed by another program") {
		t.Errorf("logged %q", log)
	}
}

func TestCompactionSkipsDamagedRecords(t *testing.T) {
	dir := t.TempDir()
	s, log := open(t, dir)
	tenant := s.Tenant("contoso")
	save(t, tenant, "a", "intact")
	save(t, tenant, "b", "original")
	path := onlyFile(t, dir, "*.values")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content = bytes.ReplaceAll(content, []byte("original"), []byte("MODIFIED"))
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		save(t, tenant, "c", strings.Repeat(fmt.Sprint(i), 1000))
	}
	var got string
	if ok, err := tenant.Load("b", &got); ok || err != nil {
		t.Errorf("Load of a damaged record = %q, %v, %v", got, ok, err)
	}
	if ok, err := tenant.Load("a", &got); !ok || err != nil || got != "intact" {
		t.Errorf("Load of the intact record = %q, %v, %v", got, ok, err)
	}
	if !strings.Contains(log.String(), "key=b") {
		t.Errorf("logged %q", log)
	}
}

// TestRecordOfAnotherKeyIsIgnored swaps two valid records of the same length
// while the storage is open.
func TestRecordOfAnotherKeyIsIgnored(t *testing.T) {
	dir := t.TempDir()
	s, log := open(t, dir)
	tenant := s.Tenant("contoso")
	save(t, tenant, "a", "value of a")
	save(t, tenant, "b", "value of b")
	path := onlyFile(t, dir, "*.values")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(content, []byte("\n"))
	lines[1], lines[2] = lines[2], lines[1]
	if err := os.WriteFile(path, bytes.Join(lines, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	got := "before"
	for _, key := range []string{"a", "b"} {
		if ok, err := tenant.Load(key, &got); ok || err == nil || got != "before" {
			t.Errorf("Load(%q) = %v, %v, and %q", key, ok, err, got)
		}
	}
	for i := range 100 { // Grow the journal until it is compacted.
		save(t, tenant, "c", strings.Repeat(fmt.Sprint(i), 1000))
	}
	for _, key := range []string{"a", "b"} {
		if ok, err := tenant.Load(key, &got); ok || err != nil || got != "before" {
			t.Errorf("after compaction Load(%q) = %v, %v, and %q", key, ok, err, got)
		}
		if !strings.Contains(log.String(), "key="+key) {
			t.Errorf("the record of %s is not logged: %s", key, log)
		}
	}
}

func TestFileNamesAreReadable(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	save(t, s.Tenant("AZ az-09 @[`{/:"), "states", snapshotOf(1))
	onlyFile(t, dir, "az_az-09_______-*.values")
}

// rewritten reports whether the file was replaced since before.
func rewritten(t *testing.T, path string, before fs.FileInfo) bool {
	t.Helper()
	now, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return !os.SameFile(before, now)
}

func TestSaveAppendsToLargeJournal(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	save(t, s.Tenant("contoso"), "large", strings.Repeat("x", 200_000))
	path := onlyFile(t, dir, "*.values")
	// These values are smaller than the large one, so no compaction is due.
	appends := func(when string) {
		t.Helper()
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			save(t, s.Tenant("contoso"), "small", strings.Repeat(fmt.Sprint(i%10), 10_000))
			if rewritten(t, path, before) {
				t.Fatalf("%s: save %d rewrote the journal", when, i)
			}
		}
	}
	appends("new journal")
	closeStorage(t, s)
	s, _ = open(t, dir)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for !rewritten(t, path, before) {
		save(t, s.Tenant("contoso"), "small", strings.Repeat("y", 10_000))
	}
	appends("after a compaction")
	closeStorage(t, s)
	s, _ = open(t, dir)
	load(t, s.Tenant("contoso"), "missing")
	appends("after a restart")
}

// TestFailedCompactionIsRetriedAfterGrowth blocks the name of the compacted file
// with a directory.
func TestFailedCompactionIsRetriedAfterGrowth(t *testing.T) {
	dir := t.TempDir()
	s, log := open(t, dir)
	tenant := s.Tenant("contoso")
	save(t, tenant, "large", strings.Repeat("x", 200_000))
	if err := os.Mkdir(filepath.Join(dir, "."+filepath.Base(onlyFile(t, dir, "*.values"))+"-0"), 0o700); err != nil {
		t.Fatal(err)
	}
	failures := func() int { return strings.Count(log.String(), "Compacting storage file failed") }
	grow := func(kilobytes int) {
		for range kilobytes {
			save(t, tenant, "small", strings.Repeat("y", 1000))
		}
	}
	for failures() == 0 {
		grow(1)
	}
	grow(200)
	if n := failures(); n != 1 {
		t.Errorf("%d failures before the journal grew by the size of its values, want 1", n)
	}
	grow(100)
	if n := failures(); n != 2 {
		t.Errorf("%d failures after the journal grew, want 2", n)
	}
}

func TestOpenRemovesTemporaryFilesWithoutWarning(t *testing.T) {
	dir := t.TempDir()
	half := filepath.Join(dir, ".contoso-0123456789abcdef.values-0")
	if err := os.WriteFile(half, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, log := open(t, dir); log.String() != "" {
		t.Errorf("logged %s", log)
	}
	if _, err := os.Stat(half); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s still exists", half)
	}
}
