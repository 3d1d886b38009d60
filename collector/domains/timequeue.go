package domains

import (
	"cmp"
	"container/heap"
	"time"
)

// timeQueue is a priority queue by time. Values of the same time keep their order of
// insertion. A value can be removed by its place. Operations take logarithmic time. The
// zero timeQueue is empty.
type timeQueue[T any] struct {
	places   queueHeap[T]
	sequence uint64 // Number of put calls.
}

// queuePlace is the place of a value in at most one timeQueue. The zero queuePlace is
// in none.
type queuePlace[T any] struct {
	queue    *timeQueue[T]
	value    T
	at       time.Time
	sequence uint64
	index    int
}

// put adds the value to the queue, after removing it from its current queue.
func (q *timeQueue[T]) put(p *queuePlace[T], value T, at time.Time) {
	p.remove()
	q.sequence++
	*p = queuePlace[T]{queue: q, value: value, at: at, sequence: q.sequence}
	heap.Push(&q.places, p)
}

// first returns the value with the earliest time, false if the queue is empty.
func (q *timeQueue[T]) first() (value T, ok bool) {
	if len(q.places) == 0 {
		return value, false
	}
	return q.places[0].value, true
}

// remove removes the value from its queue, if it is in one.
func (p *queuePlace[T]) remove() {
	if p.queue != nil {
		heap.Remove(&p.queue.places, p.index)
		p.queue = nil
	}
}

// queueHeap implements heap.Interface.
type queueHeap[T any] []*queuePlace[T]

func (h queueHeap[T]) Len() int { return len(h) }

func (h queueHeap[T]) Less(i, j int) bool {
	return cmp.Or(h[i].at.Compare(h[j].at), cmp.Compare(h[i].sequence, h[j].sequence)) < 0
}

func (h queueHeap[T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *queueHeap[T]) Push(x any) {
	p := x.(*queuePlace[T])
	p.index = len(*h)
	*h = append(*h, p)
}

func (h *queueHeap[T]) Pop() any {
	last := len(*h) - 1
	p := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return p
}
