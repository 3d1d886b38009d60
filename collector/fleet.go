package collector

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

// Fleet is the latest index of the machines of a tenant that require attention,
// by which a watched domain's machines are joined with their properties. Its
// methods may be called concurrently.
type Fleet struct {
	maxAge time.Duration

	mu        sync.Mutex
	attention *attentionIndex
	watchers  map[*fleetWatcher]struct{}
}

// newFleet returns a Fleet whose index serves up to the age.
func newFleet(maxAge time.Duration) *Fleet {
	return &Fleet{maxAge: maxAge, watchers: make(map[*fleetWatcher]struct{})}
}

// attentionIndex is immutable.
type attentionIndex struct {
	at           time.Time     // Of the states it was made from.
	index        *machineIndex // The value of an entry is the number of a combination.
	combinations []propertySet
	properties   []string // Those that a machine of the fleet has, sorted.
	ids          []int    // The number of each property in a combination.
}

// count returns, for each of the properties, how many of the machines have it.
func (a *attentionIndex) count(machines []client.MachineID) []int {
	counts := make([]int, len(a.properties))
	for _, id := range machines {
		e := a.index.find(id)
		if e == nil {
			continue
		}
		set := a.combinations[e.value]
		for i, property := range a.ids {
			if set.has(property) {
				counts[i]++
			}
		}
	}
	return counts
}

// set replaces the index and returns when all who follow have taken it.
func (f *Fleet) set(a *attentionIndex) {
	f.mu.Lock()
	f.attention = a
	watchers := slices.Collect(maps.Keys(f.watchers))
	f.mu.Unlock()
	for _, w := range watchers {
		w.call()
	}
}

// current returns the index, or nil where there is none or it is too old.
func (f *Fleet) current() *attentionIndex {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.attention == nil || !isFresh(f.attention.at, f.maxAge) {
		return nil
	}
	return f.attention
}

// validFor is the age up to which a join with the fleet serves, 0 without a fleet.
func (f *Fleet) validFor() time.Duration {
	if f == nil {
		return 0
	}
	return f.maxAge
}

// follow calls changed after each set until the context ends. When it has
// returned, no call of changed is under way and none follows.
func (f *Fleet) follow(ctx context.Context, changed func()) {
	if f == nil {
		return
	}
	w := &fleetWatcher{changed: changed}
	f.mu.Lock()
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
