package attention

import (
	"slices"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

func TestPropertySet(t *testing.T) {
	numbers := []int{0, 1, 31, 63, 64, 65, 100, 127}
	var s PropertySet
	if !s.IsEmpty() {
		t.Error("the zero set is not empty")
	}
	for _, n := range numbers {
		s.Put(n)
		s.Put(n)
		var alone PropertySet
		alone.Put(n)
		if alone.IsEmpty() {
			t.Errorf("set with %d is empty", n)
		}
	}
	var got []int
	s.Each(func(n int) { got = append(got, n) })
	if !slices.Equal(got, numbers) {
		t.Errorf("set has %v, want %v", got, numbers)
	}
	for n := range 128 {
		if s.has(n) != slices.Contains(numbers, n) {
			t.Errorf("has(%d) is %v", n, s.has(n))
		}
	}
}

// machineSets implements ByID.
type machineSets map[client.MachineID]PropertySet

func (m machineSets) Len() int                                   { return len(m) }
func (m machineSets) Properties(id client.MachineID) PropertySet { return m[id] }

// twoMachines returns machine 1 with the properties a and c, and machine 2 with c.
func twoMachines() *Machines {
	both, last := PropertySet{}, PropertySet{}
	both.Put(0)
	both.Put(70)
	last.Put(70)
	names := make([]string, 71)
	names[0], names[70] = "a", "c"
	return New(machineSets{{1}: both, {2}: last}, names, []int{0, 70})
}

func TestMachinesAreCountedByProperty(t *testing.T) {
	m := twoMachines()
	if want := []string{"a", "c"}; !slices.Equal(m.Properties, want) {
		t.Fatalf("properties %v, want %v", m.Properties, want)
	}
	for name, tc := range map[string]struct {
		ids  []byte
		want []int
	}{
		"none":                                   {nil, []int{0, 0}},
		"machine without properties":             {[]byte{3}, []int{0, 0}},
		"both":                                   {[]byte{1, 2}, []int{1, 2}},
		"mixed with machines without properties": {[]byte{3, 1, 4, 2, 5}, []int{1, 2}},
		"machine with a single property":         {[]byte{2}, []int{0, 1}},
	} {
		var ids []client.MachineID
		for _, n := range tc.ids {
			ids = append(ids, client.MachineID{n})
		}
		if got := m.Count(ids); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestCurrentState(t *testing.T) {
	at, machines := time.Unix(1000, 0), twoMachines()
	set := &State{At: at, MaxAge: time.Hour, Machines: machines}
	for name, tc := range map[string]struct {
		do   func(x *Index)
		want State
	}{
		"unset":                   {func(*Index) {}, State{}},
		"set":                     {func(x *Index) { x.Set(set) }, *set},
		"withdrawn":               {func(x *Index) { x.Set(set); x.Withdraw() }, State{}},
		"restored":                {func(x *Index) { x.Resume(at, time.Minute) }, State{At: at, MaxAge: time.Minute}},
		"the same fleet resumed":  {func(x *Index) { x.Set(set); x.Resume(at, time.Minute) }, State{At: at, MaxAge: time.Minute, Machines: machines}},
		"an older fleet resumed":  {func(x *Index) { x.Set(set); x.Resume(at.Add(-1), time.Minute) }, State{At: at.Add(-1), MaxAge: time.Minute}},
		"resumed without a fleet": {func(x *Index) { x.Set(set); x.Resume(time.Time{}, time.Minute) }, State{MaxAge: time.Minute}},
	} {
		x := &Index{}
		tc.do(x)
		if got := *x.Current(); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

func TestWithdrawWithoutAFleetCallsNoFollower(t *testing.T) {
	x := &Index{}
	calls := 0
	w := &watcher{changed: func() { calls++ }}
	x.watchers = map[*watcher]struct{}{w: {}}
	x.Withdraw()
	if calls != 0 {
		t.Errorf("%d calls", calls)
	}
}
