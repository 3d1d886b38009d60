package collector

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/mde-exporter/mde_exporter/client"
)

// hashedID looks as the ids of the API do: like the sum of a hash.
func hashedID(n uint64) (id client.MachineID) {
	r := rand.New(rand.NewPCG(n, 7))
	binary.LittleEndian.PutUint64(id[:], r.Uint64())
	binary.LittleEndian.PutUint64(id[8:], r.Uint64())
	binary.LittleEndian.PutUint32(id[16:], r.Uint32())
	return id
}

func TestMachineIndexHoldsWhatAMapHolds(t *testing.T) {
	for name, makeID := range map[string]func(uint64) client.MachineID{
		"ids like hashes":         hashedID,
		"ids that count up":       func(n uint64) client.MachineID { return id(int(n)) },
		"ids that differ at last": func(n uint64) (id client.MachineID) { binary.BigEndian.PutUint64(id[12:], n+1); return id },
	} {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2))
			index, want := newMachineIndex(), make(map[client.MachineID]uint32)
			for range 12_000 {
				id := makeID(random.Uint64N(8_000))
				entry, added := index.add(id)
				if _, known := want[id]; known == added {
					t.Fatalf("added %v where known is %v", added, known)
				}
				entry.value = random.Uint32()
				want[id] = entry.value
			}
			check := func() {
				t.Helper()
				if index.len() != len(want) {
					t.Fatalf("%d entries, want %d", index.len(), len(want))
				}
				for n := range uint64(8_000) {
					id := makeID(n)
					value, known := want[id]
					entry := index.find(id)
					if (entry != nil) != known || known && entry.value != value {
						t.Fatalf("entry %v of a machine whose value is %d, known %v", entry, value, known)
					}
				}
			}
			check()
			index.keep(func(e *indexEntry) bool { return e.value%3 == 0 })
			for id, value := range want {
				if value%3 != 0 {
					delete(want, id)
				}
			}
			check()
			index.keep(func(*indexEntry) bool { return false })
			clear(want)
			check()
			if _, added := index.add(makeID(5)); !added {
				t.Error("an emptied index knows a machine")
			}
		})
	}
}

func BenchmarkMachineIndex(b *testing.B) {
	ids := make([]client.MachineID, 1_000_000)
	for i := range ids {
		ids[i] = hashedID(uint64(i))
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var index *machineIndex
	for b.Loop() {
		index = newMachineIndex()
		for _, id := range ids {
			index.add(id)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(ids)), "ns/machine")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(len(ids)), "B/machine")
	runtime.KeepAlive(index)
	runtime.KeepAlive(ids)
}
