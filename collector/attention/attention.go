// Package attention is the index of a tenant's machines that require attention:
// the collector of security states fills it, others join their machines with it.
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

// Index holds the machines of one client's tenant that require attention. It
// outlives the collectors that a reload replaces. Its methods may be called
// concurrently; reading it waits for nothing, so it may be read under any lock. The
// zero Index is of an unknown fleet.
type Index struct {
	shown    atomic.Pointer[State]
	mu       sync.Mutex
	watchers map[*watcher]struct{}
}

// Of returns the Index of the collectors of one client.
func Of(s *collector.Shared) *Index {
	return collector.Share(s, func() (*Index, func()) { return &Index{}, nil })
}

// Expect says that states are to be read or restored. Until then, joins that were
// stored are shown up to the maximum age. It does nothing once a fleet was set.
func (x *Index) Expect(maxAge time.Duration) {
	x.shown.CompareAndSwap(nil, &State{Unknown: true, MaxAge: maxAge})
}

// State is the fleet whose counts are exposed. It is immutable.
type State struct {
	// At is when reading it began, zero where no fleet is exposed. A join belongs
	// to it if it is of the same time.
	At time.Time
	// MaxAge is the age at which the fleet and joins with it are withdrawn.
	MaxAge time.Duration
	// Machines is nil where they are not known, as after a restart.
	Machines *Machines
	// Unknown says that the states have neither restored nor read anything yet.
	Unknown bool
}

// PropertySet is a set of up to 128 properties by their numbers.
type PropertySet [2]uint64

// Put adds a property.
func (s *PropertySet) Put(number int) { s[number/64] |= 1 << (number % 64) }

// IsEmpty reports whether there is no property.
func (s PropertySet) IsEmpty() bool { return s[0]|s[1] == 0 }

func (s PropertySet) has(number int) bool { return s[number/64]&(1<<(number%64)) != 0 }

// Each calls f for each property, the smallest number first.
func (s PropertySet) Each(f func(number int)) {
	for word, rest := range s {
		for ; rest != 0; rest &= rest - 1 {
			f(64*word + bits.TrailingZeros64(rest))
		}
	}
}

// Machines are those that require attention, by id. They are immutable.
type Machines struct {
	Properties []string // Those that a machine of the fleet has, sorted.
	used       []int    // The number of each of them in a PropertySet.
	index      ByID
}

// ByID maps the ids of machines to their properties. Its methods may be called
// concurrently.
type ByID interface {
	// Len returns the number of machines.
	Len() int
	// Properties returns the properties of a machine, none where it is missing.
	Properties(id client.MachineID) PropertySet
}

// New returns the machines of an index. Names are those of the properties by their
// numbers; used are the numbers that a machine has, sorted by name.
func New(index ByID, names []string, used []int) *Machines {
	a := &Machines{index: index, used: used}
	for _, number := range used {
		a.Properties = append(a.Properties, names[number])
	}
	return a
}

// Len returns the number of machines.
func (a *Machines) Len() int { return a.index.Len() }

// Count returns, for each of the properties, how many of the machines have it.
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

// unset is the State of an Index that nobody fills.
var unset = &State{Unknown: true}

// Current returns the fleet that is exposed.
func (x *Index) Current() *State {
	if s := x.shown.Load(); s != nil {
		return s
	}
	return unset
}

// Resume makes the fleet of a stored result the one that is exposed, under the
// maximum age that is now configured; the zero time means that there is none.
// The machines stay known where it is the same fleet as before.
func (x *Index) Resume(at time.Time, maxAge time.Duration) {
	next := &State{At: at, MaxAge: maxAge}
	if last := x.Current(); last.Machines != nil && last.At.Equal(at) {
		next.Machines = last.Machines
	}
	x.Set(next)
}

// Settle says that no fleet will be exposed, unless one is expected or was set.
func (x *Index) Settle() {
	x.shown.CompareAndSwap(nil, &State{})
}

// Withdraw says that no fleet is exposed any more, nor will be until states are
// read again. Joins with it are withdrawn before it returns.
func (x *Index) Withdraw() {
	if last := x.Current(); last.Unknown || !last.At.IsZero() {
		x.Set(&State{})
	}
}

// Set replaces the fleet and returns when all who follow have taken it.
func (x *Index) Set(s *State) {
	x.shown.Store(s)
	x.mu.Lock()
	watchers := slices.Collect(maps.Keys(x.watchers))
	x.mu.Unlock()
	for _, w := range watchers {
		w.call()
	}
}

// Follow calls changed after each set until the context ends. When it has
// returned, no call of changed is under way and none follows.
func (x *Index) Follow(ctx context.Context, changed func()) {
	w := &watcher{changed: changed}
	x.mu.Lock()
	if x.watchers == nil {
		x.watchers = make(map[*watcher]struct{})
	}
	x.watchers[w] = struct{}{}
	x.mu.Unlock()
	w.call() // What was set before.
	<-ctx.Done()
	x.mu.Lock()
	delete(x.watchers, w)
	x.mu.Unlock()
	w.stop()
}

// watcher calls a function, one call at a time, until it is stopped.
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
