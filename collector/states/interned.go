package states

import (
	"math"

	"github.com/mde-exporter/mde_exporter/client"
)

// listValues remembers what is made of a list by its spelling, since most machines have a
// list that others have, too.
type listValues[T any] struct {
	lists  map[string]*listValue[T]
	recent [1 << 8]*listValue[T] // That were looked up, each in a place by its bytes.
}

type listValue[T any] struct {
	spelled string
	value   T
}

// Lists that are remembered are so many and so long at most.
const (
	maxLists     = 1 << 12
	maxListBytes = 1 << 9
)

func newListValues[T any]() *listValues[T] {
	return &listValues[T]{lists: make(map[string]*listValue[T])}
}

// of returns what read returns for the list, which must be the same each time.
func (v *listValues[T]) of(list client.TextList, read func(client.TextList) T) T {
	place := len(list)
	if place > 2 {
		place += 3*int(list[place/4]) + 5*int(list[place/2]) + 7*int(list[place-1-place/4])
	}
	recent := &v.recent[place%len(v.recent)]
	if *recent != nil && (*recent).spelled == string(list) {
		return (*recent).value
	}
	known := v.lists[string(list)]
	if known == nil {
		known = &listValue[T]{value: read(list)}
		if len(v.lists) >= maxLists || len(list) > maxListBytes {
			return known.value
		}
		known.spelled = string(list)
		v.lists[known.spelled] = known
	}
	*recent = known
	return known.value
}

// interned gives each distinct value a number, so that a machine takes two bytes for
// it. Once all numbers are given away, every further value gets that of other.
type interned[T comparable] struct {
	values  []T
	numbers map[T]uint16
	other   T
	last    T // The value that was looked up last, with its number.
	lastN   uint16
}

// newInterned gives first the number 0.
func newInterned[T comparable](first, other T) *interned[T] {
	return &interned[T]{values: []T{first}, numbers: map[T]uint16{first: 0}, other: other, last: first}
}

func (i *interned[T]) number(v T) uint16 {
	if v == i.last {
		return i.lastN
	}
	n, ok := i.numbers[v]
	if !ok {
		if len(i.values) >= math.MaxUint16 && v != i.other {
			return i.number(i.other)
		}
		n = uint16(len(i.values))
		i.values = append(i.values, v)
		i.numbers[v] = n
	}
	i.last, i.lastN = v, n
	return n
}
