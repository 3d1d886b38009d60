// Package machineindex maps the ids of a fleet's machines to what is known of
// each, in as little memory as possible.
package machineindex

import (
	"hash/maphash"
	"iter"

	"github.com/mde-exporter/mde_exporter/client"
)

// Index maps machine ids to values. A machine costs the size of an id and of a
// value, and 5 to 9 bytes more where it was added by Add. V should hold no
// pointers, so that the garbage collector has nothing to scan. An Index must not be
// copied; Find is safe for concurrent use as long as nothing is added.
//
// Ids come from outside, so places are chosen by a keyed hash: nobody can make
// them collide. The index consists of parts that grow one after the other, so that
// growing leaves little garbage.
type Index[V any] struct {
	seed    maphash.Seed
	parts   [64]part[V] // So few that the ends of all stay in the cache.
	rows    int
	scratch []uint32 // The slots of the part that was settled last.
}

// part holds its entries in chunks that never move, except for a first chunk that still
// grows. Slots find them by open addressing.
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
	// A slot is the number of an entry of its part, counted from 1, below the
	// topmost bits of its hash, which spare most looks at entries of other ids.
	// 0 is a free slot.
	tagBits    = 8
	numberBits = 32 - tagBits
)

// New returns an index with room for about so many machines. More may be added, up
// to some billions.
func New[V any](machines int) *Index[V] {
	x := &Index[V]{seed: maphash.MakeSeed()}
	if each := machines / len(x.parts); each > 0 {
		for i := range x.parts {
			x.parts[i].slots = make([]uint32, slotsFor(each+each/16))
		}
	}
	return x
}

// Len returns the number of machines, or, between Append and Settle, of rows.
func (x *Index[V]) Len() int { return x.rows }

// Find returns the value of a machine that came by Add, or nil.
func (x *Index[V]) Find(id client.MachineID) *V {
	p, hash := x.part(id)
	if len(p.slots) == 0 {
		return nil
	}
	v, _ := p.find(p.slots, hash, id)
	return v
}

// Add returns the value of a machine, and whether it is new and zero. The pointer is
// valid until the next Add.
func (x *Index[V]) Add(id client.MachineID) (v *V, added bool) {
	p, hash := x.part(id)
	n := p.entries
	if (n+1)*8 >= len(p.slots)*7 {
		p.slots = make([]uint32, slotsFor(n+1))
		x.settle(p, p.slots)
	}
	v, at := p.find(p.slots, hash, id)
	if v != nil {
		return v, false
	}
	p.slots[at] = slot(hash, n)
	x.rows++
	return p.append(entry[V]{id: id}), true
}

// Append adds a row of a machine without looking for an earlier one, which costs a
// fraction of Add in a large index: it waits for no memory. Settle must follow
// before any other method but Len is called.
func (x *Index[V]) Append(id client.MachineID, v V) {
	p, _ := x.part(id)
	x.rows++
	p.append(entry[V]{id, v})
}

// Settle drops all rows of a machine that were appended but the first.
func (x *Index[V]) Settle() {
	x.rows = 0
	for i := range x.parts {
		p := &x.parts[i]
		size := slotsFor(p.entries)
		if cap(x.scratch) < size {
			x.scratch = make([]uint32, size)
		}
		x.scratch = x.scratch[:size]
		clear(x.scratch)
		x.rows += x.settle(p, x.scratch)
	}
}

// settle gives every machine of a part a slot, and drops the rows that have one
// already. It returns how many are left.
func (x *Index[V]) settle(p *part[V], slots []uint32) int {
	n := 0
	for chunk := range p.filled() {
		for i := range chunk {
			e := &chunk[i]
			_, hash := x.part(e.id)
			if earlier, at := p.find(slots, hash, e.id); earlier == nil {
				slots[at] = slot(hash, n)
				p.move(e, n)
				n++
			}
		}
	}
	p.cut(n)
	return n
}

// Keep drops the machines for which keep is false, and makes Find possible after Settle.
// It costs no memory but that of the slots.
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
		p.cut(n)
		p.slots = make([]uint32, slotsFor(n))
		x.rows += x.settle(p, p.slots)
	}
}

// All yields each machine once, in no order. Nothing may be added meanwhile.
func (x *Index[V]) All() iter.Seq2[client.MachineID, *V] {
	return func(yield func(client.MachineID, *V) bool) {
		for i := range x.parts {
			for chunk := range x.parts[i].filled() {
				for n := range chunk {
					if !yield(chunk[n].id, &chunk[n].value) {
						return
					}
				}
			}
		}
	}
}

// part returns the part of an id, and the id's hash.
func (x *Index[V]) part(id client.MachineID) (*part[V], uint64) {
	hash := maphash.Bytes(x.seed, id[:])
	return &x.parts[hash%64], hash
}

// entry returns the n-th entry.
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

func (p *part[V]) append(e entry[V]) *V {
	n := uint(p.entries)
	if n%chunkEntries == 0 || n < chunkEntries && n == uint(len(p.chunks[0])) {
		p.grow()
	}
	p.entries++
	into := &p.chunks[n/chunkEntries][n%chunkEntries]
	*into = e
	return &into.value
}

// grow makes room for one entry more. The first chunk begins small, since most fleets
// are.
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

// move makes an entry the n-th.
func (p *part[V]) move(e *entry[V], n int) {
	if to := p.entry(n); to != e {
		*to = *e
	}
}

// cut drops the entries after the first n.
func (p *part[V]) cut(n int) {
	chunks := (n + chunkEntries - 1) / chunkEntries
	clear(p.chunks[chunks:])
	p.chunks, p.entries = p.chunks[:chunks], n
}

// find returns the value of an id, or nil and the free slot where it belongs.
func (p *part[V]) find(slots []uint32, hash uint64, id client.MachineID) (v *V, at uint32) {
	mask := uint32(len(slots) - 1)
	for at = uint32(hash>>8) & mask; slots[at] != 0; at = (at + 1) & mask {
		if slots[at]>>numberBits == uint32(hash>>(64-tagBits)) {
			n := slots[at]<<tagBits>>tagBits - 1
			if e := p.entry(int(n)); e.id == id {
				return &e.value, at
			}
		}
	}
	return nil, at
}

// slot is what finds the entry of a part that n others come before.
func slot(hash uint64, n int) uint32 {
	return uint32(hash>>(64-tagBits))<<numberBits | uint32(n+1)
}

// slotsFor is the number of slots, a power of two, for so many entries. At least an
// eighth of them stays free: a search ends at a free one.
func slotsFor(entries int) int {
	size := 8 // One is free at seven eighths.
	for entries*8 >= size*7 {
		size *= 2
	}
	return size
}
