package machineindex

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

// hashedID returns an id that looks like a hash, as the API's do.
func hashedID(n uint64) (id client.MachineID) {
	r := rand.New(rand.NewPCG(n, 7))
	binary.LittleEndian.PutUint64(id[:], r.Uint64())
	binary.LittleEndian.PutUint64(id[8:], r.Uint64())
	binary.LittleEndian.PutUint32(id[16:], r.Uint32())
	return id
}

type machine struct{ value uint32 }

// all yields the entries of all parts.
func all(index *Index[machine]) iter.Seq2[client.MachineID, *machine] {
	return func(yield func(client.MachineID, *machine) bool) {
		for i := range index.parts {
			for n := range index.parts[i].entries {
				if e := index.parts[i].entry(n); !yield(e.id, &e.value) {
					return
				}
			}
		}
	}
}

func TestIndexEqualsMap(t *testing.T) {
	for name, makeID := range map[string]func(uint64) client.MachineID{
		"ids like hashes":                   hashedID,
		"ids that count up":                 func(n uint64) (id client.MachineID) { binary.LittleEndian.PutUint64(id[:], n); return id },
		"ids that differ in the last bytes": func(n uint64) (id client.MachineID) { binary.BigEndian.PutUint64(id[12:], n+1); return id },
	} {
		for _, expected := range []int{0, 100, 8_000, 100_000} {
			t.Run(fmt.Sprintf("%s, %d expected", name, expected), func(t *testing.T) {
				random := rand.New(rand.NewPCG(1, 2))
				index, want := New[machine](expected), make(map[client.MachineID]uint32)
				for range 60_000 {
					id := makeID(random.Uint64N(40_000))
					v, added := index.Add(&id)
					if last, machine := want[id]; machine == added || v.value != last {
						t.Fatalf("added %v with %d, want %v with %d", added, v.value, machine, last)
					}
					v.value = random.Uint32()
					want[id] = v.value
				}
				if index.Len() != len(want) {
					t.Fatalf("%d machines, want %d", index.Len(), len(want))
				}
				for n := range uint64(40_000) {
					id := makeID(n)
					value, machine := want[id]
					if v := index.Find(&id); (v != nil) != machine || machine && v.value != value {
						t.Fatalf("Find returned %v, want %d, found %v", v, value, machine)
					}
				}
				for id, v := range all(index) {
					if value, machine := want[id]; !machine || v.value != value {
						t.Fatalf("the index has %d, want %d, or has a machine twice", v.value, value)
					}
					delete(want, id)
				}
				if len(want) > 0 {
					t.Errorf("%d machines are missing", len(want))
				}
			})
		}
	}
}

func TestEmptyIndex(t *testing.T) {
	index := New[machine](0)
	if index.Find(new(hashedID(1))) != nil || index.Len() != 0 {
		t.Error("the index is not empty")
	}
	for range all(index) {
		t.Error("the index has a machine")
	}
}

// A search ends at a free slot, so there must always be one.
func TestEveryPartKeepsAFreeSlot(t *testing.T) {
	for _, expected := range []int{0, 700, 1_500, 5_000} {
		index := New[machine](expected)
		for n := range uint64(8_000) {
			index.Add(new(hashedID(n)))
			for i := range index.parts {
				if s := index.parts[i].slots; len(s) > 0 && !slices.Contains(s, 0) {
					t.Fatalf("no slot of %d is free after %d machines", len(s), n+1)
				}
			}
			if index.Find(new(hashedID(n+1))) != nil {
				t.Fatalf("found machine %d before it was added", n+1)
			}
		}
	}
}

func TestDeduplicateKeepsFirstRow(t *testing.T) {
	for _, rows := range []int{0, 1, 2, 300, 100_000} {
		t.Run(fmt.Sprint(rows, " rows"), func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(rows), 1))
			index, want := New[machine](0), make(map[client.MachineID]uint32)
			for i := range uint32(rows) {
				id := hashedID(random.Uint64N(uint64(rows)))
				if _, twice := want[id]; !twice {
					want[id] = i
				}
				index.Append(&id, machine{i})
				if i%30_000 == 0 {
					index.Deduplicate()
				}
			}
			index.Deduplicate()
			if index.Len() != len(want) {
				t.Errorf("%d machines, want %d", index.Len(), len(want))
			}
			for id, v := range all(index) {
				first, machine := want[id]
				if !machine || first != v.value {
					t.Fatalf("row %d, want row %d, or a machine was yielded twice", v.value, first)
				}
				delete(want, id)
			}
			if len(want) > 0 {
				t.Errorf("%d machines are missing", len(want))
			}
		})
	}
}

func benchmark(b *testing.B, fill func(index *Index[machine], ids []client.MachineID)) {
	ids := make([]client.MachineID, 1_000_000)
	for i := range ids {
		ids[i] = hashedID(uint64(i))
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var index *Index[machine]
	for b.Loop() {
		index = New[machine](0)
		fill(index, ids)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(ids)), "ns/machine")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(len(ids)), "B/machine")
	runtime.KeepAlive(index)
	runtime.KeepAlive(ids)
}

func BenchmarkAdd(b *testing.B) {
	benchmark(b, func(index *Index[machine], ids []client.MachineID) {
		for i := range ids {
			index.Add(&ids[i])
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	benchmark(b, func(index *Index[machine], ids []client.MachineID) {
		for i := range ids {
			index.Append(&ids[i], machine{uint32(i)})
		}
		index.Deduplicate()
	})
}

// A search in a part without a free slot would never end.
func TestFindOfMissingMachineReturns(t *testing.T) {
	done := make(chan bool)
	go func() {
		defer close(done)
		index := New[machine](0)
		for n := range uint64(2000) {
			index.Add(new(hashedID(n)))
			for missing := range uint64(500) {
				if index.Find(new(hashedID(1<<32+missing))) != nil {
					t.Error("a machine that was never added is found")
				}
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("Find does not return")
	}
}

func TestKeepDropsOtherMachines(t *testing.T) {
	for _, fill := range []string{"Add", "Append"} {
		t.Run(fill, func(t *testing.T) {
			index := New[machine](0)
			for n := range uint32(30_000) {
				if fill == "Append" {
					index.Append(new(hashedID(uint64(n))), machine{n})
					continue
				}
				v, _ := index.Add(new(hashedID(uint64(n))))
				v.value = n
			}
			if fill == "Append" {
				index.Deduplicate()
			}
			index.Keep(func(v *machine) bool { return v.value%2 == 1 })
			if index.Len() != 15_000 {
				t.Errorf("%d machines, want 15000", index.Len())
			}
			for n := range uint64(31_000) {
				v := index.Find(new(hashedID(n)))
				if (v != nil) != (n < 30_000 && n%2 == 1) || v != nil && v.value != uint32(n) {
					t.Fatalf("Find returned %v for machine %d", v, n)
				}
			}
			if v, added := index.Add(new(hashedID(1_000_000))); !added || v.value != 0 || index.Len() != 15_001 {
				t.Error("Add failed")
			}
			index.Keep(func(*machine) bool { return false })
			if index.Len() != 0 || index.Find(new(hashedID(1))) != nil {
				t.Errorf("%d machines after dropping all", index.Len())
			}
		})
	}
}
