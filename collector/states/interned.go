package states

import "math"

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
