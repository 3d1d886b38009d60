package domains

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// writeAt writes a file in place, as if that happened some time ago.
func writeAt(t *testing.T, path, text string, at time.Time) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, at, at)); err != nil {
		t.Fatal(err)
	}
}

// A file system may keep size, time and inode of a file that changes.
func TestUnchangedFileIsReadAgainPeriodically(t *testing.T) {
	for name, tc := range map[string]struct {
		age, wait time.Duration // Of the file when it is read, and until it is read again.
		want      string
	}{
		"it had just changed":         {3 * time.Second, 10 * time.Second, "b.example"},
		"it had not changed for long": {4 * time.Second, 10 * time.Second, "a.example"},
		"almost a minute later":       {4 * time.Second, time.Minute - 1, "a.example"},
		"a minute later":              {4 * time.Second, time.Minute, "b.example"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "list.txt")
			synctest.Test(t, func(t *testing.T) {
				at := time.Now().Add(-tc.age)
				writeAt(t, path, "a.example", at)
				var lists Lists
				lists.List([]string{path})
				time.Sleep(tc.wait)
				writeAt(t, path, "b.example", at)
				lists.Read(t.Context())
				if got := lists.List([]string{path}).Domains; !slices.Equal(got, []string{tc.want}) {
					t.Errorf("domains %q, want %s", got, tc.want)
				}
			})
		})
	}
}

func TestInvalidListKeepsItsLastValidState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list.txt")
	var log strings.Builder
	lists := Lists{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	for _, step := range []struct {
		text, domains string
		mistakes      []int // Lines.
		old           bool
		logged        string
	}{
		{"*\na.example", "a.example", []int{1}, false, "using only its valid lines"},
		{"*\nb.example", "b.example", []int{1}, false, "using only its valid lines"},
		{"b.example # a comment\n\na.example\nb.example", "a.example b.example", nil, false, "Watch list changed"},
		{"c.example\n\n*", "a.example b.example", []int{3}, true, "keeping the last valid list"},
		{"c.example\n*\n*", "a.example b.example", []int{2, 3}, true, "keeping the last valid list"},
		{"", "", nil, false, "Watch list changed"},
		{"*\nd.example\n\x00.example\ne.example", "", []int{1, 3}, true, "keeping the last valid list"},
	} {
		log.Reset()
		if err := os.WriteFile(path, []byte(step.text), 0o600); err != nil {
			t.Fatal(err)
		}
		lists.Read(t.Context(), []string{path})
		list := lists.List([]string{path})
		var lines []int
		for _, m := range list.Mistakes {
			lines = append(lines, m.Line)
		}
		if got := strings.Join(list.Domains, " "); got != step.domains || !slices.Equal(lines, step.mistakes) || list.Old != step.old || !strings.Contains(log.String(), step.logged) {
			t.Errorf("%q: domains %q, mistakes in lines %v, old %v, log:\n%s", step.text, got, lines, list.Old, log.String())
		}
		log.Reset()
		lists.Read(t.Context())
		if again := lists.List([]string{path}); again != list || log.String() != "" {
			t.Errorf("%q: another list without a change, log:\n%s", step.text, log.String())
		}
	}
}

func TestFirstValidListIsNotLogged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list.txt")
	writeAt(t, path, "a.example", time.Now())
	var log strings.Builder
	lists := Lists{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	lists.List([]string{path})
	lists.List(nil)
	if log.String() != "" {
		t.Errorf("log:\n%s", log.String())
	}
}

func TestFilesArePolledEveryFourSeconds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list.txt")
	synctest.Test(t, func(t *testing.T) {
		var lists Lists
		writeAt(t, path, "a.example", time.Now())
		lists.List([]string{path})
		writeAt(t, path, "b.example", time.Now().Add(time.Second))
		for _, step := range []struct {
			wait time.Duration
			want string
		}{{4*time.Second - 1, "a.example"}, {1, "b.example"}} {
			time.Sleep(step.wait)
			lists.Poll(t.Context())
			if got := lists.List([]string{path}).Domains; !slices.Equal(got, []string{step.want}) {
				t.Errorf("domains %q, want %s", got, step.want)
			}
		}
	})
}

func TestListUnusedForAnHourIsDropped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list.txt")
	for unused, want := range map[time.Duration]bool{time.Hour: false, time.Hour + 1: true} {
		synctest.Test(t, func(t *testing.T) {
			var lists Lists
			writeAt(t, path, "a.example", time.Now())
			first := lists.List([]string{path})
			time.Sleep(unused)
			lists.Read(t.Context())
			if forgotten := lists.List([]string{path}) != first; forgotten != want {
				t.Errorf("after %s, forgotten %v", unused, forgotten)
			}
		})
	}
}

func TestMistakesOfAFileAreLimitedAndSummarized(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list.txt")
	for n, want := range map[int]int{5: 5, 6: 6, 100: 100, 101: 100} {
		writeAt(t, path, strings.Repeat("*\n", n), time.Now())
		list := new(Lists).List([]string{path})
		summary := list.Summary()
		if len(list.Mistakes) != want || strings.Count(summary, path) != 5 || strings.Contains(summary, "and more") != (n > 5) {
			t.Errorf("of %d mistakes %d are kept, summary %q", n, len(list.Mistakes), summary)
		}
	}
}

func TestListFileIsReadUpToInvalidText(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list.txt")
	writeAt(t, path, "a.example\n\x00.example\nb.example", time.Now())
	list := new(Lists).List([]string{path})
	if len(list.Mistakes) != 1 || list.Mistakes[0].Line != 2 || !slices.Equal(list.Domains, []string{"a.example"}) {
		t.Errorf("domains %q, mistakes %v", list.Domains, list.Mistakes)
	}
}

func TestMissingFileIsNoChange(t *testing.T) {
	patterns := []string{filepath.Join(t.TempDir(), "list.txt")}
	var lists Lists
	list := lists.List(patterns)
	lists.Read(t.Context())
	if again := lists.List(patterns); len(list.Mistakes) != 1 || again != list {
		t.Errorf("mistakes %v, then %v", list.Mistakes, again.Mistakes)
	}
}

func TestChangedFileIsReadAgainImmediately(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, path string, at time.Time){
		"time": func(t *testing.T, path string, at time.Time) { writeAt(t, path, "b.example", at.Add(time.Second)) },
		"size": func(t *testing.T, path string, at time.Time) { writeAt(t, path, "b.example\n", at) },
		"inode": func(t *testing.T, path string, at time.Time) {
			writeAt(t, path+".new", "b.example", at)
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "list.txt")
			synctest.Test(t, func(t *testing.T) {
				at := time.Now().Add(-10 * time.Second)
				writeAt(t, path, "a.example", at)
				var lists Lists
				lists.List([]string{path})
				change(t, path, at)
				lists.Read(t.Context())
				if got := lists.List([]string{path}).Domains; !slices.Equal(got, []string{"b.example"}) {
					t.Errorf("domains %q, want b.example", got)
				}
			})
		})
	}
}

func TestInvalidPatternIsNoChange(t *testing.T) {
	patterns := []string{filepath.Join(t.TempDir(), "[")}
	var lists Lists
	list := lists.List(patterns)
	lists.Read(t.Context())
	if again := lists.List(patterns); len(list.Mistakes) != 1 || again != list {
		t.Errorf("mistakes %v, then %v", list.Mistakes, again.Mistakes)
	}
}
