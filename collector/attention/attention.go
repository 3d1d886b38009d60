// Package attention is the index of a tenant's machines that require attention. The
// collector of security states updates it; other collectors join their machines with
// it.
package attention

import (
	"context"
	"maps"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
)

// Index holds the current State of the fleet of one client. It outlives the collectors
// that a reload replaces. Its methods are safe for concurrent use. Current never
// blocks, so it may be called with any lock held. The zero Index has no fleet.
type Index struct {
	current  atomic.Pointer[State]
	mu       sync.Mutex
	watchers map[*watcher]struct{}
}

// Of returns the Index of the collectors of one client.
func Of(s *collector.Shared) *Index {
	return collector.Share(s, func() (*Index, func()) { return &Index{}, nil })
}

// State is a fleet whose counts are exposed. It is immutable.
type State struct {
	// At is when the fleet was read, zero if none is exposed. A join belongs to the
	// fleet with the same time.
	At time.Time
	// MaxAge is the age at which the fleet and joins with it are withdrawn.
	MaxAge time.Duration
	// Machines is nil if they are unavailable, as after a restart.
	Machines *Machines
}

// PropertySet is a set of up to 128 properties, by number.
type PropertySet [2]uint64

// Put adds a property.
func (s *PropertySet) Put(number int) { s[number/64] |= 1 << (number % 64) }

// IsEmpty reports whether the set is empty.
func (s PropertySet) IsEmpty() bool { return s[0]|s[1] == 0 }

func (s PropertySet) has(number int) bool { return s[number/64]&(1<<(number%64)) != 0 }

// Each calls f for each property in ascending order.
func (s PropertySet) Each(f func(number int)) {
	for word, rest := range s {
		for ; rest != 0; rest &= rest - 1 {
			f(64*word + bits.TrailingZeros64(rest))
		}
	}
}

// Machines are the machines that require attention. They are immutable.
type Machines struct {
	Properties []string // Properties that at least one machine has, sorted.
	used       []int    // Number of each of Properties in a PropertySet.
	index      ByID
}

// ByID maps machine ids to properties. Its methods are safe for concurrent use.
type ByID interface {
	// Len returns the number of machines.
	Len() int
	// Properties returns the properties of a machine, the empty set if it is missing.
	Properties(id client.MachineID) PropertySet
}

// New returns the Machines of an index. Names are the property names by number. Used
// are the numbers of the properties that at least one machine has, sorted by name.
func New(index ByID, names []string, used []int) *Machines {
	a := &Machines{index: index, used: used}
	for _, number := range used {
		a.Properties = append(a.Properties, names[number])
	}
	return a
}

// Len returns the number of machines.
func (a *Machines) Len() int { return a.index.Len() }

// Count returns the number of the given machines with each of Properties.
func (a *Machines) Count(machines []client.MachineID) []int {
	counts := make([]int, len(a.Properties))
	for _, id := range machines {
		set := a.index.Properties(id)
		if set.IsEmpty() {
			continue
		}
		for i, property := range a.used {
			if set.has(property) {
				counts[i]++
			}
		}
	}
	return counts
}

// none is the State of an Index without a fleet.
var none = &State{}

// Current returns the exposed fleet.
func (x *Index) Current() *State {
	if s := x.current.Load(); s != nil {
		return s
	}
	return none
}

// Resume sets a fleet that was restored from the store, with the currently configured
// maximum age. The zero time means no fleet. If the fleet is the current one, its
// machines stay available.
func (x *Index) Resume(at time.Time, maxAge time.Duration) {
	next := &State{At: at, MaxAge: maxAge}
	if last := x.Current(); last.Machines != nil && last.At.Equal(at) {
		next.Machines = last.Machines
	}
	x.Set(next)
}

// Withdraw withdraws the fleet and the joins with it, before it returns. There is no
// fleet until states are read again.
func (x *Index) Withdraw() {
	if !x.Current().At.IsZero() {
		x.Set(none)
	}
}

// Set replaces the fleet and returns after all followers have been called.
func (x *Index) Set(s *State) {
	x.current.Store(s)
	x.mu.Lock()
	watchers := slices.Collect(maps.Keys(x.watchers))
	x.mu.Unlock()
	for _, w := range watchers {
		w.call()
	}
}

// Follow calls changed immediately and after every Set, until the context ends. After
// it returns, changed is not running and is not called again.
func (x *Index) Follow(ctx context.Context, changed func()) {
	w := &watcher{changed: changed}
	x.mu.Lock()
	if x.watchers == nil {
		x.watchers = make(map[*watcher]struct{})
	}
	x.watchers[w] = struct{}{}
	x.mu.Unlock()
	w.call() // For the State before the call.
	<-ctx.Done()
	x.mu.Lock()
	delete(x.watchers, w)
	x.mu.Unlock()
	w.stop()
}

// watcher calls a function until it is stopped, one call at a time.
type watcher struct {
	mu      sync.Mutex
	changed func()
	stopped bool
}

func (w *watcher) call() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.changed()
	}
}

func (w *watcher) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
}
