package collector

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/internal/machineindex"
)

// Fleet hands the machines of a tenant that require attention from the states to
// the watched domains, whose machines are joined with their properties. It
// belongs to one client: machines of another directory are another fleet. It
// outlives the collectors that a reload replaces. Its methods may be called
// concurrently; reading it waits for nothing, so it may be read under any lock. Of
// the zero Fleet nothing is known.
type Fleet struct {
	shown    atomic.Pointer[shownFleet]
	mu       sync.Mutex
	watchers map[*fleetWatcher]struct{}
}

// fleetOf returns the Fleet of the collectors of one client.
func fleetOf(s *Shared) *Fleet {
	return Share(s, func() (*Fleet, func()) { return &Fleet{}, nil })
}

// Expect says that states are to be read or restored. Until then, joins that were
// stored are shown up to the maximum age. It does nothing once a fleet was set.
func (f *Fleet) Expect(maxAge time.Duration) {
	f.shown.CompareAndSwap(nil, &shownFleet{unknown: true, maxAge: maxAge})
}

// shownFleet is the fleet whose counts are exposed. It is immutable.
type shownFleet struct {
	// at is when reading it began, zero where no fleet is exposed. A join belongs
	// to it if it is of the same time.
	at time.Time
	// maxAge is the age at which the fleet and joins with it are withdrawn.
	maxAge time.Duration
	// attention is nil where the machines are not known, as after a restart.
	attention *attentionIndex
	// unknown says that the states have neither restored nor read anything yet.
	unknown bool
}

// attentionIndex is the machines that require attention, by id. It is immutable.
type attentionIndex struct {
	machines     *machineindex.Index[attentionEntry]
	combinations []propertySet
	properties   []string // Those that a machine of the fleet has, sorted.
	ids          []int    // The number of each property in a combination.
}

type attentionEntry struct {
	combination uint16 // Of combinations.
}

// newAttentionIndex takes the machines of which combination is not 0, about so many.
func newAttentionIndex[V any](c *fleetCount, machines *machineindex.Index[V], requiring int, combination func(*V) uint16) *attentionIndex {
	a := &attentionIndex{machines: machineindex.Select(machines, requiring, func(v *V) (attentionEntry, bool) {
		n := combination(v)
		return attentionEntry{n}, n != 0
	})}
	a.combinations, a.ids = c.combinations, c.usedProperties()
	for _, id := range a.ids {
		a.properties = append(a.properties, c.properties.names[id])
	}
	return a
}

// count returns, for each of the properties, how many of the machines have it.
func (a *attentionIndex) count(machines []client.MachineID) []int {
	counts := make([]int, len(a.properties))
	for _, id := range machines {
		e := a.machines.Find(id)
		if e == nil {
			continue
		}
		set := a.combinations[e.combination]
		for i, property := range a.ids {
			if set.has(property) {
				counts[i]++
			}
		}
	}
	return counts
}

// unset is what is shown of a Fleet that nobody counts.
var unset = &shownFleet{unknown: true}

// current returns the fleet that is exposed. Of a nil Fleet nothing is known.
func (f *Fleet) current() *shownFleet {
	if f != nil {
		if s := f.shown.Load(); s != nil {
			return s
		}
	}
	return unset
}

// resume makes the fleet of a stored result the one that is exposed, under the
// maximum age that is now configured; the zero time means that there is none.
// The machines stay known where it is the same fleet as before.
func (f *Fleet) resume(at time.Time, maxAge time.Duration) {
	next := &shownFleet{at: at, maxAge: maxAge}
	if last := f.current(); last.attention != nil && last.at.Equal(at) {
		next.attention = last.attention
	}
	f.set(next)
}

// Settle says that no fleet will be exposed, unless one is expected or was set.
func (f *Fleet) Settle() {
	if f != nil {
		f.shown.CompareAndSwap(nil, &shownFleet{})
	}
}

// Withdraw says that no fleet is exposed any more, nor will be until states are
// read again. Joins with it are withdrawn before it returns.
func (f *Fleet) Withdraw() {
	if last := f.current(); last.unknown || !last.at.IsZero() {
		f.set(&shownFleet{})
	}
}

// set replaces the fleet and returns when all who follow have taken it.
func (f *Fleet) set(s *shownFleet) {
	f.shown.Store(s)
	f.mu.Lock()
	watchers := slices.Collect(maps.Keys(f.watchers))
	f.mu.Unlock()
	for _, w := range watchers {
		w.call()
	}
}

// follow calls changed after each set until the context ends. When it has
// returned, no call of changed is under way and none follows.
func (f *Fleet) follow(ctx context.Context, changed func()) {
	if f == nil {
		return
	}
	w := &fleetWatcher{changed: changed}
	f.mu.Lock()
	if f.watchers == nil {
		f.watchers = make(map[*fleetWatcher]struct{})
	}
	f.watchers[w] = struct{}{}
	f.mu.Unlock()
	w.call() // What was set before.
	<-ctx.Done()
	f.mu.Lock()
	delete(f.watchers, w)
	f.mu.Unlock()
	w.stop()
}

// fleetWatcher calls a function, one call at a time, until it is stopped.
type fleetWatcher struct {
	mu      sync.Mutex
	changed func()
	stopped bool
}

func (w *fleetWatcher) call() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.changed()
	}
}

func (w *fleetWatcher) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
}
