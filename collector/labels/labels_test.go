package labels

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func uncounted() *Dropped {
	d := NewDropped("test", nil, func(string) bool { return false })
	d.count = func(int) {}
	return d
}

func TestLabelValuesAreCleaned(t *testing.T) {
	for name, tc := range map[string]struct{ raw, want string }{
		"plain text is kept":             {"Amd64", "Amd64"},
		"surrounding spaces are removed": {"  Amd64 ", "Amd64"},
		"inner spaces are kept":          {"64 bit", "64 bit"},
		"control characters are removed": {"Am\x00d\n6\x7f4", "Amd64"},
		"format characters are removed":  {"Am\u202ed64\u200b", "Amd64"},
		"other alphabets are kept":       {"Ärger 電腦", "Ärger 電腦"},
		"invalid UTF-8 is replaced":      {"Am\xffd64", "Am\ufffdd64"},
		"128 bytes are kept":             {strings.Repeat("a", 128), strings.Repeat("a", 128)},
		"129 bytes are truncated":        {strings.Repeat("a", 129), strings.Repeat("a", 128)},
		"characters are not split":       {strings.Repeat("a", 127) + "é", strings.Repeat("a", 127)},
		"a megabyte is truncated":        {strings.Repeat("é", 1<<19), strings.Repeat("é", 64)},
		"only control characters":        {"\x01\x02", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Clean([]byte(tc.raw)); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

func FuzzCleanLabel(f *testing.F) {
	for _, seed := range []string{"", "Amd64", "\xff\xfe", "a\x00b", strings.Repeat("é", 100), "\u202e", " x "} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got := Clean(raw)
		if !utf8.ValidString(got) || len(got) > MaxBytes || strings.ContainsAny(got, "\x00\n\r") {
			t.Errorf("%q cleaned to %q", raw, got)
		}
		if again := Clean([]byte(got)); again != got {
			t.Errorf("%q cleaned again to %q", got, again)
		}
	})
}

func TestValuesPastTheLimitAreOther(t *testing.T) {
	dropped := 0
	d := uncounted()
	d.count = func(n int) { dropped += n }
	table := NewTable(3, Unknown, nil, d)
	name := func(raw string) string { return table.Names[table.Number([]byte(raw))] }
	for _, step := range []struct{ raw, want string }{
		{"a", "a"}, {"b", "b"}, {"", "unknown"}, {"\x00", "unknown"}, {"c", "c"},
		{"d", "other"}, {"d", "other"}, {"e", "other"}, {"a", "a"}, {" b ", "b"}, {"other", "other"}, {"unknown", "unknown"},
	} {
		if got := name(step.raw); got != step.want {
			t.Errorf("%q is %q, want %q", step.raw, got, step.want)
		}
	}
	if dropped != 2 {
		t.Errorf("%d values dropped, want the 2 distinct ones", dropped)
	}
}

func TestNamesInUseKeepTheirPlace(t *testing.T) {
	table := NewTable(2, Unknown, []string{"old", "other", "unknown"}, uncounted())
	for _, raw := range []string{"new", "newer", "old"} {
		table.Number([]byte(raw))
	}
	if got := table.Names[table.Number([]byte("old"))]; got != "old" {
		t.Errorf("old name is %q", got)
	}
	if got := table.Names[table.Number([]byte("newer"))]; got != "other" {
		t.Errorf("third name is %q", got)
	}
}

func TestLimitAppliesToNamesInUse(t *testing.T) {
	table := NewTable(2, Unknown, []string{"a", "b", "c"}, uncounted())
	if got, want := strings.Join(table.Names, " "), "other unknown a b"; got != want {
		t.Errorf("names %q, want %q", got, want)
	}
}

func TestNumberOfArbitraryBytes(t *testing.T) {
	table := NewTable(1<<20, Unknown, nil, uncounted())
	for a := range 256 {
		for b := range 256 {
			for _, raw := range [][]byte{{byte(a), byte(b)}, {byte(a), 1, byte(b)}, {1, byte(a), byte(b)}} {
				want := Clean(raw)
				if want == "" {
					want = Unknown
				}
				if got := table.Names[table.Number(raw)]; got != want {
					t.Fatalf("%q is %q, want %q", raw, got, want)
				}
			}
		}
	}
}

func TestDeviceGroup(t *testing.T) {
	for raw, want := range map[string]string{"": NoDeviceGroup, "UnassignedGroup": NoDeviceGroup, "Servers": "Servers"} {
		table := NewTable(MaxDeviceGroups, NoDeviceGroup, nil, uncounted())
		if got := table.Names[table.Number(DeviceGroup([]byte(raw)))]; got != want {
			t.Errorf("%q: group %q, want %q", raw, got, want)
		}
	}
}

func TestNumberDoesNotAllocateForKnownValues(t *testing.T) {
	table := NewTable(10, Unknown, []string{"19045", "22631"}, uncounted())
	a, b := []byte("19045"), []byte("22631")
	if allocs := testing.AllocsPerRun(100, func() { table.Number(a); table.Number(b) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestDroppedMemoryIsBounded(t *testing.T) {
	total := 0
	d := uncounted()
	d.count = func(n int) { total += n }
	for i := range maxDropped + 1000 {
		d.Drop(fmt.Sprint(i))
	}
	if total != maxDropped || len(d.seen) != maxDropped {
		t.Errorf("%d counted, %d kept, want %d", total, len(d.seen), maxDropped)
	}
}
