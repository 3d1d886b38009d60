package states

import (
	"math"

	"github.com/mde-exporter/mde_exporter/client"
)

// listValues caches the value of each list by its raw text, since most machines have
// the same list as others.
type listValues[T any] struct {
	lists  map[string]*listValue[T]
	recent [1 << 8]*listValue[T] // Looked up recently, by a hash of the raw text.
}

type listValue[T any] struct {
	raw   string
	value T
}

// Limits of the cached lists: their number and the length of each. Other lists are read
// again.
const (
	maxLists     = 1 << 12
	maxListBytes = 1 << 9
)

func newListValues[T any]() *listValues[T] {
	return &listValues[T]{lists: make(map[string]*listValue[T])}
}

// of returns read(list), possibly cached: read must return the same value for the same
// list.
func (v *listValues[T]) of(list client.TextList, read func(client.TextList) T) T {
	place := len(list)
	if place > 2 {
		place += 3*int(list[place/4]) + 5*int(list[place/2]) + 7*int(list[place-1-place/4])
	}
	recent := &v.recent[place%len(v.recent)]
	if *recent != nil && (*recent).raw == string(list) {
		return (*recent).value
	}
	cached := v.lists[string(list)]
	if cached == nil {
		cached = &listValue[T]{value: read(list)}
		if len(v.lists) >= maxLists || len(list) > maxListBytes {
			return cached.value
		}
		cached.raw = string(list)
		v.lists[cached.raw] = cached
	}
	*recent = cached
	return cached.value
}

// interned maps each distinct value to a 16-bit number. Once the numbers are used up,
// further values get the number of other.
type interned[T comparable] struct {
	values  []T
	numbers map[T]uint16
	other   T
	last    T // The last value that was looked up.
	lastN   uint16
}

// newInterned returns a map in which first has the number 0.
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
