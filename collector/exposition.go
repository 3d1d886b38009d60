package collector

import (
	"cmp"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Exposition holds the last snapshot of every tenant and collector and hands
// them, merged, to a scrape. Values past their time are left out. The zero
// Exposition is empty and ready. Its methods may be called concurrently.
type Exposition struct {
	generation atomic.Uint64 // Of the snapshots.
	merged     atomic.Pointer[merged]

	mu        sync.Mutex
	snapshots map[snapshotKey][]*Block
}

type snapshotKey struct{ tenant, collector string }

// merged is what a scrape gets, for as long as nothing changes.
type merged struct {
	generation uint64
	until      time.Time // The first time at which a value expires, zero if none does.
	families   []*dto.MetricFamily
}

func (m *merged) current(generation uint64, now time.Time) bool {
	return m != nil && m.generation == generation && (m.until.IsZero() || now.Before(m.until))
}

// Publish replaces what a collector of a tenant exposes. The blocks must not
// be changed any more, and no series occurs in two of them.
func (e *Exposition) Publish(tenant, collector string, blocks []*Block) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.snapshots == nil {
		e.snapshots = make(map[snapshotKey][]*Block)
	}
	e.snapshots[snapshotKey{tenant, collector}] = blocks
	e.generation.Add(1)
}

// Remove withdraws what a collector of a tenant exposes. The collector's
// refresher must have stopped before.
func (e *Exposition) Remove(tenant, collector string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.snapshots, snapshotKey{tenant, collector})
	e.generation.Add(1)
}

// Gather returns the families sorted by name, their metrics by tenant. The
// result is shared: it must not be changed. As long as nothing was published and
// nothing expired, it is the same as before and costs nothing. The error is
// always nil.
func (e *Exposition) Gather() ([]*dto.MetricFamily, error) {
	now := time.Now()
	if m := e.merged.Load(); m.current(e.generation.Load(), now) {
		return m.families, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.merged.Load()
	if !m.current(e.generation.Load(), now) {
		m = e.merge(now)
		e.merged.Store(m)
	}
	return m.families, nil
}

func (e *Exposition) merge(now time.Time) *merged {
	keys := make([]snapshotKey, 0, len(e.snapshots))
	for key := range e.snapshots {
		keys = append(keys, key)
	}
	sort.Slice(keys, func(i, j int) bool {
		a, b := keys[i], keys[j]
		return cmp.Or(strings.Compare(a.tenant, b.tenant), strings.Compare(a.collector, b.collector)) < 0
	})
	m := &merged{generation: e.generation.Load()}
	families := make(map[string]*dto.MetricFamily)
	for _, key := range keys {
		for _, block := range e.snapshots[key] {
			if !block.expires.IsZero() {
				if !now.Before(block.expires) {
					continue
				}
				if m.until.IsZero() || block.expires.Before(m.until) {
					m.until = block.expires
				}
			}
			for _, s := range block.series {
				f := families[s.family.name]
				if f == nil {
					f = &dto.MetricFamily{Name: &s.family.name, Help: &s.family.help, Type: dto.MetricType_GAUGE.Enum()}
					families[s.family.name] = f
					m.families = append(m.families, f)
				}
				f.Metric = append(f.Metric, s.metrics...)
			}
		}
	}
	sortFamilies(m.families)
	return m
}

// Combine returns a gatherer of the registry's families and the exposition's,
// sorted by name. No family may occur in both.
func Combine(registry prometheus.Gatherer, e *Exposition) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := registry.Gather()
		exposed, _ := e.Gather()
		families = append(families, exposed...)
		sortFamilies(families)
		return families, err
	})
}

func sortFamilies(families []*dto.MetricFamily) {
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
}
