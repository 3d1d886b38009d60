package domains

import (
	"container/heap"
	"time"
)

// timeQueue hands out values by time, those of the same time in the order in
// which they came. Each value has a place, by which it leaves the queue at any
// time; all operations take logarithmic time. The zero timeQueue is empty.
type timeQueue[T any] struct {
	places queueHeap[T]
	came   uint64 // Values that were put so far.
}

// queuePlace is the place of a value in a timeQueue, or in none: one place is in
// one queue at a time. The zero queuePlace is in none.
type queuePlace[T any] struct {
	queue *timeQueue[T]
	value T
	at    time.Time
	came  uint64
	index int
}

// put puts a value in the queue, after taking it from where it was.
func (q *timeQueue[T]) put(p *queuePlace[T], value T, at time.Time) {
	p.leave()
	q.came++
	*p = queuePlace[T]{queue: q, value: value, at: at, came: q.came}
	heap.Push(&q.places, p)
}

// first returns the value of the earliest time, false where the queue is empty.
func (q *timeQueue[T]) first() (value T, ok bool) {
	if len(q.places) == 0 {
		return value, false
	}
	return q.places[0].value, true
}

// leave takes the value from its queue, if it is in one.
func (p *queuePlace[T]) leave() {
	if p.queue != nil {
		heap.Remove(&p.queue.places, p.index)
		p.queue = nil
	}
}

// queueHeap implements heap.Interface.
type queueHeap[T any] []*queuePlace[T]

func (h queueHeap[T]) Len() int { return len(h) }

func (h queueHeap[T]) Less(i, j int) bool {
	if c := h[i].at.Compare(h[j].at); c != 0 {
		return c < 0
	}
	return h[i].came < h[j].came
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
