package collector

import (
	"hash/maphash"

	"github.com/mde-exporter/mde_exporter/client"
)

// machineIndex maps the ids of a fleet's machines to a few bits each, at about
// 40 bytes a machine. Entries lie in chunks that never move; only the slots that
// find them, eight bytes each, are copied when a table grows, and the 256 tables
// grow one after the other: growing leaves little behind for the garbage
// collector. Neither holds pointers, so it scans nothing.
//
// Ids come from outside, so slots are chosen by a keyed hash: nobody can make
// them collide.
type machineIndex struct {
	seed   maphash.Seed
	tables [256][]indexSlot // Open addressing.
	counts [256]int         // Entries in each table.
	chunks [][]indexEntry
}

// indexSlot is the lower half of an id's hash above the number of its entry plus
// one; 0 is a free slot.
type indexSlot uint64

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

// reserve makes room for about so many machines in an empty index, so that its
// tables need not grow. More may be added.
func (x *machineIndex) reserve(machines int) {
	if machines == 0 {
		return
	}
	each := machines / len(x.tables)
	size := tableSize(each + each/16)
	for part := range x.tables {
		x.tables[part] = make([]indexSlot, size)
	}
}

// tableSize is the number of slots, a power of two, of a table that has room for so
// many entries and one more.
func tableSize(entries int) int {
	size := 8
	for entries*8 >= size*7 {
		size *= 2
	}
	return size
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
	part, hash := x.hash(id)
	table := x.tables[part]
	if len(table) == 0 {
		return nil
	}
	e, _ := x.probe(table, hash, id)
	return e
}

// add returns the entry of a machine and whether it is new. The pointer is good
// until the next add.
func (x *machineIndex) add(id client.MachineID) (e *indexEntry, added bool) {
	part, hash := x.hash(id)
	if x.counts[part]*8 >= len(x.tables[part])*7 {
		x.grow(part, max(8, 2*len(x.tables[part])))
	}
	table := x.tables[part]
	e, at := x.probe(table, hash, id)
	if e != nil {
		return e, false
	}
	n := x.append(indexEntry{id: id})
	table[at] = indexSlot(hash)<<32 | indexSlot(n+1)
	x.counts[part]++
	return x.entry(n), true
}

// hash returns the table of an id and its hash within the table.
func (x *machineIndex) hash(id client.MachineID) (part, hash uint32) {
	h := maphash.Bytes(x.seed, id[:])
	return uint32(h >> 56), uint32(h)
}

// probe looks for a machine from the slot of its hash on. It returns the entry,
// or nil and the free slot where it belongs.
func (x *machineIndex) probe(table []indexSlot, hash uint32, id client.MachineID) (*indexEntry, uint32) {
	mask := uint32(len(table) - 1)
	for at := hash & mask; ; at = (at + 1) & mask {
		slot := table[at]
		if slot == 0 {
			return nil, at
		}
		if uint32(slot>>32) == hash {
			if e := x.entry(int(uint32(slot)) - 1); e.id == id {
				return e, at
			}
		}
	}
}

func (x *machineIndex) entry(n int) *indexEntry {
	return &x.chunks[n/chunkEntries][n%chunkEntries]
}

// append stores an entry and returns its number.
func (x *machineIndex) append(e indexEntry) int {
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
	return x.len() - 1
}

// grow gives one table another size, a power of two.
func (x *machineIndex) grow(part uint32, size int) {
	table := make([]indexSlot, size)
	for _, slot := range x.tables[part] {
		if slot != 0 {
			place(table, slot)
		}
	}
	x.tables[part] = table
}

// place puts the slot of an entry that the table does not hold where it belongs.
func place(table []indexSlot, slot indexSlot) {
	mask := uint32(len(table) - 1)
	at := uint32(slot>>32) & mask
	for table[at] != 0 {
		at = (at + 1) & mask
	}
	table[at] = slot
}

// keep drops every entry for which keep is false. It needs no memory beside
// what it keeps: entries move to the front, and the rest is let go.
func (x *machineIndex) keep(keep func(*indexEntry) bool) {
	x.counts = [256]int{}
	n := 0
	for _, chunk := range x.chunks {
		for i := range chunk {
			if keep(&chunk[i]) {
				*x.entry(n) = chunk[i]
				n++
			}
		}
	}
	whole, rest := n/chunkEntries, n%chunkEntries
	chunks := append(make([][]indexEntry, 0, whole+1), x.chunks[:whole]...)
	if rest > 0 {
		chunks = append(chunks, append(make([]indexEntry, 0, rest), x.chunks[whole][:rest]...))
	}
	x.chunks = chunks
	for i := range n {
		part, _ := x.hash(x.entry(i).id)
		x.counts[part]++
	}
	for part, entries := range x.counts {
		switch size := tableSize(entries); {
		case entries == 0:
			x.tables[part] = nil
		case size == len(x.tables[part]):
			clear(x.tables[part])
		default:
			x.tables[part] = make([]indexSlot, size)
		}
	}
	for i := range n {
		part, hash := x.hash(x.entry(i).id)
		place(x.tables[part], indexSlot(hash)<<32|indexSlot(i+1))
	}
}
