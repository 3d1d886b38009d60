// Package machineindex provides a memory-efficient map from machine ids to
// values.
package machineindex

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"math/rand/v2"

	"github.com/mde-exporter/mde_exporter/client"
)

// Index maps machine ids to values. It needs the size of an id and a value per
// machine, plus 5 to 9 bytes for machines added by Add. V should contain no
// pointers, so that the garbage collector does not scan the values. An Index must
// not be copied. Find is safe for concurrent use while nothing is added.
//
// Ids are passed by pointer, because reading a copy right after it was written takes
// half of the time of Append.
//
// The hash is keyed, because ids come from outside: nobody can construct
// collisions. The index is split into parts that grow one after another, which
// keeps garbage small.
type Index[V any] struct {
	key     key
	parts   [64]part[V] // Few enough to keep the end of each in the CPU cache.
	rows    int
	scratch []uint32 // Slots of the part that was deduplicated last.
}

// part stores its entries in chunks that never move, except for a first chunk
// that still grows. Slots locate entries by open addressing.
type part[V any] struct {
	chunks  [][]entry[V]
	entries int
	slots   []uint32
}

type entry[V any] struct {
	id    client.MachineID
	value V
}

const (
	chunkEntries = 128
	// A slot is the number of an entry in its part, counted from 1, below the
	// topmost bits of its hash. These bits avoid most comparisons with other ids.
	// 0 is a free slot.
	tagBits    = 8
	numberBits = 32 - tagBits
)

// New returns an index with room for about this number of machines. It grows as
// needed, up to some billions.
func New[V any](machines int) *Index[V] {
	x := &Index[V]{key: key{rand.Uint64(), rand.Uint64(), rand.Uint64()}}
	if each := machines / len(x.parts); each > 0 {
		for i := range x.parts {
			x.parts[i].slots = make([]uint32, slotsFor(each+each/16))
		}
	}
	return x
}

// Len returns the number of machines. Between Append and Deduplicate it returns
// the number of rows.
func (x *Index[V]) Len() int { return x.rows }

// Find returns the value of a machine added by Add, or nil.
func (x *Index[V]) Find(id *client.MachineID) *V {
	p, hash := x.part(id)
	if len(p.slots) == 0 {
		return nil
	}
	v, _ := p.find(p.slots, hash, id)
	return v
}

// Add returns the value of a machine and whether it was added, with a zero value.
// The pointer is valid until the next Add.
func (x *Index[V]) Add(id *client.MachineID) (v *V, added bool) {
	p, hash := x.part(id)
	n := p.entries
	if (n+1)*8 >= len(p.slots)*7 {
		p.slots = make([]uint32, slotsFor(n+1))
		x.deduplicate(p, p.slots)
	}
	v, at := p.find(p.slots, hash, id)
	if v != nil {
		return v, false
	}
	p.slots[at] = slot(hash, n)
	x.rows++
	e := p.add()
	*e = entry[V]{id: *id}
	return &e.value, true
}

// Append adds a row without checking for an earlier row of the machine. In a
// large index it is much faster than Add, because it does not wait for memory.
// Deduplicate must be called before any other method but Len.
func (x *Index[V]) Append(id *client.MachineID, v V) {
	p, _ := x.part(id)
	x.rows++
	e := p.add()
	e.id, e.value = *id, v
}

// Deduplicate keeps only the first appended row of each machine.
func (x *Index[V]) Deduplicate() {
	x.rows = 0
	for i := range x.parts {
		p := &x.parts[i]
		size := slotsFor(p.entries)
		if cap(x.scratch) < size {
			x.scratch = make([]uint32, size)
		}
		x.scratch = x.scratch[:size]
		clear(x.scratch)
		x.rows += x.deduplicate(p, x.scratch)
	}
}

// deduplicate assigns a slot to every machine of a part and drops rows of
// machines that already have one. It returns the number of remaining rows.
func (x *Index[V]) deduplicate(p *part[V], slots []uint32) int {
	n := 0
	for chunk := range p.filled() {
		for i := range chunk {
			e := &chunk[i]
			_, hash := x.part(&e.id)
			if earlier, at := p.find(slots, hash, &e.id); earlier == nil {
				slots[at] = slot(hash, n)
				p.move(e, n)
				n++
			}
		}
	}
	p.truncate(n)
	return n
}

// Keep drops the machines for which keep returns false. It also makes Find
// possible after Deduplicate. It allocates only the slots.
func (x *Index[V]) Keep(keep func(*V) bool) {
	x.rows = 0
	for i := range x.parts {
		p, n := &x.parts[i], 0
		for chunk := range p.filled() {
			for i := range chunk {
				if keep(&chunk[i].value) {
					p.move(&chunk[i], n)
					n++
				}
			}
		}
		p.truncate(n)
		p.slots = make([]uint32, slotsFor(n))
		x.rows += x.deduplicate(p, p.slots)
	}
}

// part returns the part and the hash of an id.
func (x *Index[V]) part(id *client.MachineID) (*part[V], uint64) {
	hash := x.key.hash(id)
	return &x.parts[hash%64], hash
}

// key is the random key of a hash.
type key [3]uint64

// hash multiplies the words of an id with the key, as wyhash does. Append and
// Deduplicate take 25% longer with maphash.Bytes.
func (k *key) hash(id *client.MachineID) uint64 {
	high, low := bits.Mul64(binary.LittleEndian.Uint64(id[:])^k[0], binary.LittleEndian.Uint64(id[8:])^k[1])
	high, low = bits.Mul64(high^low^k[2], binary.LittleEndian.Uint64(id[12:])^k[0])
	return high ^ low
}

// entry returns entry n.
func (p *part[V]) entry(n int) *entry[V] {
	return &p.chunks[uint(n)/chunkEntries][uint(n)%chunkEntries]
}

// filled yields the entries chunk by chunk.
func (p *part[V]) filled() iter.Seq[[]entry[V]] {
	return func(yield func([]entry[V]) bool) {
		rest := p.entries
		for _, chunk := range p.chunks {
			if !yield(chunk[:min(rest, len(chunk))]) {
				return
			}
			rest -= len(chunk)
		}
	}
}

// add returns a new entry. Its content is undefined.
func (p *part[V]) add() *entry[V] {
	n := p.entries
	if uint(n)%chunkEntries == 0 || n < chunkEntries && n == len(p.chunks[0]) {
		p.grow()
	}
	p.entries++
	return p.entry(n)
}

// grow makes room for another entry. The first chunk starts small, because most
// fleets are small.
func (p *part[V]) grow() {
	switch {
	case len(p.chunks) == 0:
		p.chunks = append(p.chunks, make([]entry[V], 4))
	case p.entries < chunkEntries:
		p.chunks[0] = append(p.chunks[0], make([]entry[V], p.entries)...)
	default:
		p.chunks = append(p.chunks, make([]entry[V], chunkEntries))
	}
}

// move copies an entry to position n.
func (p *part[V]) move(e *entry[V], n int) {
	if to := p.entry(n); to != e {
		*to = *e
	}
}

// truncate drops the entries after the first n.
func (p *part[V]) truncate(n int) {
	chunks := (n + chunkEntries - 1) / chunkEntries
	clear(p.chunks[chunks:])
	p.chunks, p.entries = p.chunks[:chunks], n
}

// find returns the value of an id, or nil and the free slot for it.
func (p *part[V]) find(slots []uint32, hash uint64, id *client.MachineID) (v *V, at uint32) {
	mask := uint32(len(slots) - 1)
	for at = uint32(hash>>8) & mask; slots[at] != 0; at = (at + 1) & mask {
		if slots[at]>>numberBits == uint32(hash>>(64-tagBits)) {
			n := slots[at]<<tagBits>>tagBits - 1
			if e := p.entry(int(n)); e.id == *id {
				return &e.value, at
			}
		}
	}
	return nil, at
}

// slot returns the slot of entry n of a part.
func slot(hash uint64, n int) uint32 {
	return uint32(hash>>(64-tagBits))<<numberBits | uint32(n+1)
}

// slotsFor returns the number of slots, a power of two, for the number of
// entries. At least an eighth of them stays free, because a search ends at a free
// slot.
func slotsFor(entries int) int {
	size := 8 // At seven eighths one slot is free.
	for entries*8 >= size*7 {
		size *= 2
	}
	return size
}
