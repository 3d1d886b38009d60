package collector

import (
	"context"
	"sync"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

// Fleet is the latest index of the machines of a tenant that require attention,
// by which a watched domain's machines are joined with their properties. Its
// methods may be called concurrently.
type Fleet struct {
	mu        sync.Mutex
	attention *attentionIndex
	watchers  map[*func()]struct{}
}

func newFleet() *Fleet {
	return &Fleet{watchers: make(map[*func()]struct{})}
}

// attentionIndex is immutable.
type attentionIndex struct {
	expires      time.Time
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

// set replaces the index and tells those who watch.
func (f *Fleet) set(a *attentionIndex) {
	f.mu.Lock()
	f.attention = a
	watchers := make([]func(), 0, len(f.watchers))
	for w := range f.watchers {
		watchers = append(watchers, *w)
	}
	f.mu.Unlock()
	for _, w := range watchers {
		w()
	}
}

// current returns the index, or nil where there is none or it is too old.
func (f *Fleet) current() *attentionIndex {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.attention == nil || !time.Now().Before(f.attention.expires) {
		return nil
	}
	return f.attention
}

// watch calls changed after each set until the context ends.
func (f *Fleet) watch(ctx context.Context, changed func()) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := &changed
	f.watchers[key] = struct{}{}
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, key)
	})
}
