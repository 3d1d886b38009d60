package collector

import (
	"hash/maphash"
	"iter"

	"github.com/mde-exporter/mde_exporter/client"
)

// stateLog notes the rows of machinesecuritystates until the last is there, and
// then yields each machine once. What is noted needs no place that could be
// looked up, so a row costs a write behind the one before it, where adding it to
// an index of the whole fleet costs a wait for the memory: a third of a refresh.
//
// Rows are noted in 256 parts by a keyed hash of the id. A machine's rows meet in
// one of them, whose slots fit into the processor's cache.
type stateLog struct {
	seed  maphash.Seed
	parts [256]statePart
}

// statePart holds rows in chunks that never move; the last may still grow.
type statePart [][]loggedState

// loggedState is a row whose machine may have been noted before.
type loggedState struct {
	id          client.MachineID
	group       uint32
	combination uint32
}

// stateChunk is how many rows a chunk holds.
const stateChunk = 128

func newStateLog() *stateLog { return &stateLog{seed: maphash.MakeSeed()} }

func (l *stateLog) note(s loggedState) {
	part := &l.parts[maphash.Bytes(l.seed, s.id[:])>>56]
	last := len(*part) - 1
	switch {
	case last < 0:
		*part = append(*part, nil)
		last = 0
	case len((*part)[last]) == stateChunk:
		*part = append(*part, make([]loggedState, 0, stateChunk))
		last++
	}
	(*part)[last] = append((*part)[last], s)
}

// machines yields the first row of every machine, in no order.
func (l *stateLog) machines() iter.Seq[*loggedState] {
	return func(yield func(*loggedState) bool) {
		var slots []uint32 // Open addressing: the number of a row plus one, or 0.
		for p := range l.parts {
			part := l.parts[p]
			if len(part) == 0 {
				continue
			}
			slots = emptySlots(slots, stateChunk*(len(part)-1)+len(part[len(part)-1]))
			n := uint32(0)
			for _, chunk := range part {
				for i := range chunk {
					n++
					if part.isNew(l.seed, slots, &chunk[i], n) && !yield(&chunk[i]) {
						return
					}
				}
			}
		}
	}
}

// emptySlots returns slots for so many rows, at least a third of them free.
func emptySlots(reuse []uint32, rows int) []uint32 {
	size := 8
	for size*2 < rows*3 {
		size *= 2
	}
	if cap(reuse) < size {
		return make([]uint32, size)
	}
	reuse = reuse[:size]
	clear(reuse)
	return reuse
}

// isNew gives a row a slot, unless an earlier row of its machine has one.
func (part statePart) isNew(seed maphash.Seed, slots []uint32, s *loggedState, n uint32) bool {
	mask := uint32(len(slots) - 1)
	for at := uint32(maphash.Bytes(seed, s.id[:])) & mask; ; at = (at + 1) & mask {
		if slots[at] == 0 {
			slots[at] = n
			return true
		}
		earlier := slots[at] - 1
		if part[earlier/stateChunk][earlier%stateChunk].id == s.id {
			return false
		}
	}
}
