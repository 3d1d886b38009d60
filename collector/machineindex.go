package collector

import (
	"hash/maphash"

	"github.com/mde-exporter/mde_exporter/client"
)

// machineIndex maps the ids of a fleet's machines to a few bits each, at about
// 35 bytes a machine. Entries lie in chunks that never move; only the slots that
// find them, four bytes each, are copied when a table grows, and the 256 tables
// grow one after the other: growing leaves little behind for the garbage
// collector. Neither holds pointers, so it scans nothing.
//
// Ids come from outside, so slots are chosen by a keyed hash: nobody can make
// them collide.
type machineIndex struct {
	seed   maphash.Seed
	tables [256][]uint32 // Open addressing: the number of an entry plus one, or 0.
	counts [256]int32    // Entries in each table.
	chunks [][]indexEntry
}

type indexEntry struct {
	id client.MachineID
	// value and stamp belong to the user of the index.
	value uint32
	stamp uint32
}

// chunkEntries is how many entries a chunk holds; the last may still grow.
const chunkEntries = 1024

func newMachineIndex() *machineIndex {
	return &machineIndex{seed: maphash.MakeSeed()}
}

// len returns the number of entries.
func (x *machineIndex) len() int {
	if len(x.chunks) == 0 {
		return 0
	}
	last := len(x.chunks) - 1
	return last*chunkEntries + len(x.chunks[last])
}

// find returns the entry of a machine, or nil. The pointer is good until the
// next add.
func (x *machineIndex) find(id client.MachineID) *indexEntry {
	hash := maphash.Bytes(x.seed, id[:])
	table := x.tables[hash>>56]
	if len(table) == 0 {
		return nil
	}
	e, _ := x.probe(table, hash, id)
	return e
}

// add returns the entry of a machine and whether it is new. The pointer is good
// until the next add.
func (x *machineIndex) add(id client.MachineID) (e *indexEntry, added bool) {
	hash := maphash.Bytes(x.seed, id[:])
	part := hash >> 56
	if int(x.counts[part])*4 >= len(x.tables[part])*3 {
		x.grow(part)
	}
	table := x.tables[part]
	e, slot := x.probe(table, hash, id)
	if e != nil {
		return e, false
	}
	table[slot] = x.append(indexEntry{id: id})
	x.counts[part]++
	return x.entry(table[slot]), true
}

// probe looks for a machine from the slot of its hash on. It returns the entry,
// or nil and the free slot where it belongs.
func (x *machineIndex) probe(table []uint32, hash uint64, id client.MachineID) (*indexEntry, uint32) {
	mask := uint32(len(table) - 1)
	for slot := uint32(hash) & mask; ; slot = (slot + 1) & mask {
		if table[slot] == 0 {
			return nil, slot
		}
		if e := x.entry(table[slot]); e.id == id {
			return e, slot
		}
	}
}

// entry returns the entry of a slot that is not free.
func (x *machineIndex) entry(slot uint32) *indexEntry {
	n := slot - 1
	return &x.chunks[n/chunkEntries][n%chunkEntries]
}

// append stores an entry and returns what its slot holds.
func (x *machineIndex) append(e indexEntry) uint32 {
	last := len(x.chunks) - 1
	switch {
	case last < 0:
		x.chunks = append(x.chunks, nil)
		last = 0
	case len(x.chunks[last]) == chunkEntries:
		x.chunks = append(x.chunks, make([]indexEntry, 0, chunkEntries))
		last++
	}
	x.chunks[last] = append(x.chunks[last], e)
	return uint32(x.len())
}

// grow doubles one table.
func (x *machineIndex) grow(part uint64) {
	old := x.tables[part]
	table := make([]uint32, max(8, 2*len(old)))
	mask := uint32(len(table) - 1)
	for _, n := range old {
		if n == 0 {
			continue
		}
		slot := uint32(maphash.Bytes(x.seed, x.entry(n).id[:])) & mask
		for table[slot] != 0 {
			slot = (slot + 1) & mask
		}
		table[slot] = n
	}
	x.tables[part] = table
}

// keep drops every entry for which keep is false. It needs no memory beside
// what it keeps: entries move to the front, and the rest is let go.
func (x *machineIndex) keep(keep func(*indexEntry) bool) {
	kept := machineIndex{seed: x.seed}
	n := 0
	for _, chunk := range x.chunks {
		for i := range chunk {
			if keep(&chunk[i]) {
				x.chunks[n/chunkEntries][n%chunkEntries] = chunk[i]
				n++
			}
		}
	}
	for i := 0; i*chunkEntries < n; i++ {
		size := min(chunkEntries, n-i*chunkEntries)
		chunk := x.chunks[i][:size]
		if size < chunkEntries {
			chunk = append(make([]indexEntry, 0, size), chunk...)
		}
		kept.chunks = append(kept.chunks, chunk)
	}
	*x = kept
	for i := range n {
		part := maphash.Bytes(x.seed, x.entry(uint32(i + 1)).id[:]) >> 56
		x.counts[part]++
	}
	for part, count := range x.counts {
		if count > 0 {
			size := 8
			for size*3 <= int(count)*4 {
				size *= 2
			}
			x.tables[part] = make([]uint32, size)
		}
	}
	for i := range n {
		e := x.entry(uint32(i + 1))
		hash := maphash.Bytes(x.seed, e.id[:])
		table := x.tables[hash>>56]
		_, slot := x.probe(table, hash, e.id)
		table[slot] = uint32(i + 1)
	}
}
