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

// part holds its entries in chunks that never move; the last may still grow. Slots
// find them by open addressing.
type part[V any] struct {
	chunks [][]entry[V]
	slots  []uint32
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
	n := p.len()
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
		size := slotsFor(p.len())
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
	n, read := 0, 0
	for _, chunk := range p.chunks {
		for i := range chunk {
			_, hash := x.part(chunk[i].id)
			earlier, at := p.find(slots, hash, chunk[i].id)
			if earlier == nil {
				slots[at] = slot(hash, n)
				if n < read {
					p.chunks[n/chunkEntries][n%chunkEntries] = chunk[i]
				}
				n++
			}
			read++
		}
	}
	whole, rest := n/chunkEntries, n%chunkEntries
	if rest > 0 {
		p.chunks[whole] = p.chunks[whole][:rest]
		whole++
	}
	clear(p.chunks[whole:])
	p.chunks = p.chunks[:whole]
	return n
}

// All yields each machine once, in no order. Nothing may be added meanwhile.
func (x *Index[V]) All() iter.Seq2[client.MachineID, *V] {
	return func(yield func(client.MachineID, *V) bool) {
		for i := range x.parts {
			for _, chunk := range x.parts[i].chunks {
				for n := range chunk {
					if !yield(chunk[n].id, &chunk[n].value) {
						return
					}
				}
			}
		}
	}
}

// Select returns an index of those machines of x for which keep is true, with the
// values that keep returns.
func Select[V, W any](x *Index[V], keep func(*V) (W, bool)) *Index[W] {
	selected := &Index[W]{seed: x.seed}
	for i := range x.parts {
		p := &selected.parts[i]
		for _, chunk := range x.parts[i].chunks {
			for n := range chunk {
				if w, ok := keep(&chunk[n].value); ok {
					p.append(entry[W]{chunk[n].id, w})
				}
			}
		}
		if n := p.len(); n > 0 {
			p.slots = make([]uint32, slotsFor(n))
			selected.rows += selected.settle(p, p.slots)
		}
	}
	return selected
}

// part returns the part of an id, and the id's hash.
func (x *Index[V]) part(id client.MachineID) (*part[V], uint64) {
	hash := maphash.Bytes(x.seed, id[:])
	return &x.parts[hash%64], hash
}

// len returns the number of entries.
func (p *part[V]) len() int {
	last := len(p.chunks) - 1
	if last < 0 {
		return 0
	}
	return last*chunkEntries + len(p.chunks[last])
}

func (p *part[V]) append(e entry[V]) *V {
	last := len(p.chunks) - 1
	switch {
	case last < 0:
		p.chunks = append(p.chunks, nil)
		last++
	case len(p.chunks[last]) == chunkEntries:
		p.chunks = append(p.chunks, make([]entry[V], 0, chunkEntries))
		last++
	}
	chunk := append(p.chunks[last], e)
	p.chunks[last] = chunk
	return &chunk[len(chunk)-1].value
}

// find returns the value of an id, or nil and the free slot where it belongs.
func (p *part[V]) find(slots []uint32, hash uint64, id client.MachineID) (v *V, at uint32) {
	mask := uint32(len(slots) - 1)
	for at = uint32(hash>>8) & mask; slots[at] != 0; at = (at + 1) & mask {
		if slots[at]>>numberBits == uint32(hash>>(64-tagBits)) {
			n := slots[at]<<tagBits>>tagBits - 1
			if e := &p.chunks[n/chunkEntries][n%chunkEntries]; e.id == id {
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
