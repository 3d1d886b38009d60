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
		"plain text stays":                          {"Amd64", "Amd64"},
		"spaces around it go":                       {"  Amd64 ", "Amd64"},
		"spaces inside stay":                        {"64 bit", "64 bit"},
		"control characters go":                     {"Am\x00d\n6\x7f4", "Amd64"},
		"format characters go":                      {"Am\u202ed64\u200b", "Amd64"},
		"other alphabets stay":                      {"Ärger 電腦", "Ärger 電腦"},
		"invalid UTF-8 becomes replacements":        {"Am\xffd64", "Am\ufffdd64"},
		"128 bytes stay":                            {strings.Repeat("a", 128), strings.Repeat("a", 128)},
		"129 bytes are cut":                         {strings.Repeat("a", 129), strings.Repeat("a", 128)},
		"a character is not cut in two":             {strings.Repeat("a", 127) + "é", strings.Repeat("a", 127)},
		"a megabyte is cut":                         {strings.Repeat("é", 1<<19), strings.Repeat("é", 64)},
		"nothing but control characters is nothing": {"\x01\x02", ""},
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
			t.Errorf("%q became %q", raw, got)
		}
		if again := Clean([]byte(got)); again != got {
			t.Errorf("%q becomes %q when it is cleaned again", got, again)
		}
	})
}

func TestValuesBeyondTheLimitAreOther(t *testing.T) {
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
		t.Errorf("the old name became %q", got)
	}
	if got := table.Names[table.Number([]byte("newer"))]; got != "other" {
		t.Errorf("the third name became %q", got)
	}
}

func TestNoMoreNamesInUseKeepTheirPlaceThanTheLimit(t *testing.T) {
	table := NewTable(2, Unknown, []string{"a", "b", "c"}, uncounted())
	if got, want := strings.Join(table.Names, " "), "other unknown a b"; got != want {
		t.Errorf("%q have a place, want %q", got, want)
	}
}

func TestAValueOfAnyBytesHasANumber(t *testing.T) {
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

func TestMachinesWithoutADeviceGroup(t *testing.T) {
	for raw, want := range map[string]string{"": NoDeviceGroup, "UnassignedGroup": NoDeviceGroup, "Servers": "Servers"} {
		table := NewTable(MaxDeviceGroups, NoDeviceGroup, nil, uncounted())
		if got := table.Names[table.Number(DeviceGroup([]byte(raw)))]; got != want {
			t.Errorf("%q is in the group %q, want %q", raw, got, want)
		}
	}
}

func TestKnownLabelValuesCostNoAllocation(t *testing.T) {
	table := NewTable(10, Unknown, []string{"19045", "22631"}, uncounted())
	a, b := []byte("19045"), []byte("22631")
	if allocs := testing.AllocsPerRun(100, func() { table.Number(a); table.Number(b) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestDroppedValuesAreRememberedInBoundedMemory(t *testing.T) {
	total := 0
	d := uncounted()
	d.count = func(n int) { total += n }
	for i := range maxDropped + 1000 {
		d.Drop(fmt.Sprint(i))
	}
	if total != maxDropped || len(d.seen) != maxDropped {
		t.Errorf("counted %d and remembers %d, want %d", total, len(d.seen), maxDropped)
	}
}
