package collector

import (
	"hash/maphash"
	"iter"

	"github.com/mde-exporter/mde_exporter/client"
)

// stateLog keeps the rows of machinesecuritystates until the last is there, and
// then yields each machine once. A row that is kept needs no place that could be
// looked up, so it costs a write behind the one before it, where adding it to
// an index of the whole fleet costs a wait for the memory: a third of a refresh.
//
// Rows are kept in 256 parts by a keyed hash of the id. A machine's rows meet in
// one of them, whose slots fit into the processor's cache.
type stateLog struct {
	seed      maphash.Seed
	parts     [256]statePart
	most      int // Machines.
	rows      int
	requiring int      // Rows whose machine requires attention, whether it came before or not.
	compactAt int      // Rows.
	slots     []uint32 // Of the part that was compacted last.
}

// statePart holds rows in chunks that never move; the last may still grow.
type statePart [][]loggedState

// loggedState is a row whose machine may have come before.
type loggedState struct {
	id          client.MachineID
	group       uint32
	combination uint32
}

// stateChunk is how many rows a chunk holds.
const stateChunk = 128

// newStateLog returns a log of at most so many machines. It holds no more than an
// eighth of that, or some tens of thousands, in rows of machines that came before.
func newStateLog(most int) *stateLog {
	return &stateLog{seed: maphash.MakeSeed(), most: most, compactAt: most + max(most/8, 1<<16)}
}

// add keeps a row. It reports false once the rows are known to be of more machines
// than the log may hold.
func (l *stateLog) add(s loggedState) bool {
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
	if s.combination != 0 {
		l.requiring++
	}
	if l.rows++; l.rows < l.compactAt {
		return true
	}
	l.rows = 0
	for p := range l.parts {
		l.rows += l.compact(&l.parts[p])
	}
	l.requiring = min(l.requiring, l.rows)
	return l.rows <= l.most
}

// machines yields the first row of every machine, in no order. It ends the log,
// whose memory is free to be collected as the rows are yielded.
func (l *stateLog) machines() iter.Seq[*loggedState] {
	return func(yield func(*loggedState) bool) {
		for p := range l.parts {
			l.compact(&l.parts[p])
			for _, chunk := range l.parts[p] {
				for i := range chunk {
					if !yield(&chunk[i]) {
						return
					}
				}
			}
			l.parts[p] = nil
		}
	}
}

// compact drops the rows of a part whose machine came before, and returns how many
// are left.
func (l *stateLog) compact(p *statePart) int {
	part := *p
	if len(part) == 0 {
		return 0
	}
	l.slots = emptySlots(l.slots, stateChunk*(len(part)-1)+len(part[len(part)-1]))
	seed, slots := l.seed, l.slots
	n, read := uint32(0), uint32(0)
	for _, chunk := range part {
		for i := range chunk {
			read++
			if !part.isNew(seed, slots, &chunk[i], n+1) {
				continue
			}
			if n++; n < read {
				part[(n-1)/stateChunk][(n-1)%stateChunk] = chunk[i]
			}
		}
	}
	whole, rest := int(n/stateChunk), int(n%stateChunk)
	if rest > 0 {
		part[whole] = part[whole][:rest]
		whole++
	}
	clear(part[whole:])
	*p = part[:whole]
	return int(n)
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

// isNew gives a row the slot of the number n, counted from 1, unless an earlier row
// of its machine has one.
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
