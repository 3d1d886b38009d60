package collector

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Exposition keeps the last snapshot of every tenant and collector and merges them for a
// scrape. It omits expired values. The zero Exposition is empty and ready to use. Its
// methods may be called concurrently.
type Exposition struct {
	generation atomic.Uint64 // Incremented when the exposed snapshots change.
	merged     atomic.Pointer[merged]

	mu         sync.Mutex
	collectors map[exposedKey]*exposed
	frozen     map[string]int // By tenant: calls of freeze without unfreeze. New snapshots are not exposed yet.
}

type exposedKey struct{ tenant, collector string }

// exposed is what a collector has published last, and what a scrape sees of it.
type exposed struct{ latest, shown exposure }

// exposure is a snapshot and the metrics about the collector's refreshes.
type exposure struct {
	snapshot     Snapshot
	refreshes    refreshes
	begun        bool   // The metrics about refreshes exist.
	refreshBlock *Block // The metrics of refreshes, built at the first scrape. Only of exposed.shown.
	removed      bool
}

// merged is the result of a scrape, which is reused until something changes.
type merged struct {
	generation uint64
	until      time.Time // When the first value expires, zero if none does.
	families   []*dto.MetricFamily
}

func (m *merged) current(generation uint64, now time.Time) bool {
	return m != nil && m.generation == generation && (m.until.IsZero() || now.Before(m.until))
}

// update changes what a collector exposes. It returns false and does nothing if the
// publisher is closed.
func (e *Exposition) update(p *Publisher, change func(*exposure)) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p.closed {
		return false
	}
	if e.collectors == nil {
		e.collectors = make(map[exposedKey]*exposed)
	}
	x := e.collectors[p.key]
	if x == nil {
		x = &exposed{}
		e.collectors[p.key] = x
	}
	if x.latest.removed {
		x.latest = exposure{}
	}
	change(&x.latest)
	if e.frozen[p.key.tenant] == 0 {
		x.shown = x.latest
		e.generation.Add(1)
	}
	return true
}

// Together calls f and makes all changes of the tenant during f appear in the same scrape.
func (e *Exposition) Together(tenant string, f func()) {
	e.freeze(tenant)
	defer e.unfreeze(tenant)
	f()
}

// freeze makes scrapes see the tenant's current snapshots until unfreeze is called as many
// times. Everything that is published in the meantime then appears in one scrape.
func (e *Exposition) freeze(tenant string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.frozen == nil {
		e.frozen = make(map[string]int)
	}
	e.frozen[tenant]++
}

func (e *Exposition) unfreeze(tenant string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.frozen[tenant]--
	if e.frozen[tenant] > 0 {
		return
	}
	delete(e.frozen, tenant)
	for key, x := range e.collectors {
		if key.tenant == tenant {
			x.shown = x.latest
			if x.latest.removed {
				delete(e.collectors, key)
			}
		}
	}
	e.generation.Add(1)
}

// remove removes what a collector exposes. The caller holds e.mu.
func (e *Exposition) remove(key exposedKey) {
	if x := e.collectors[key]; x != nil && e.frozen[key.tenant] > 0 {
		x.latest = exposure{removed: true}
		return
	}
	delete(e.collectors, key)
	e.generation.Add(1)
}

// Gather returns the families sorted by name, with their metrics sorted by tenant. Callers
// must not change the result, because it is shared: while nothing is published and nothing
// expires, Gather returns it again without allocations. The error is always nil.
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
	keys := slices.SortedFunc(maps.Keys(e.collectors), func(a, b exposedKey) int {
		return cmp.Or(strings.Compare(a.tenant, b.tenant), strings.Compare(a.collector, b.collector))
	})
	m := &merged{generation: e.generation.Load()}
	families := make(map[string]*dto.MetricFamily)
	for _, key := range keys {
		x := &e.collectors[key].shown
		for _, block := range x.snapshot.Blocks {
			m.add(families, block, now)
		}
		if x.begun && x.refreshBlock == nil {
			x.refreshBlock = x.refreshes.block(key, x.snapshot.At)
		}
		m.add(families, x.refreshBlock, now)
	}
	sortFamilies(m.families)
	return m
}

// add appends the series of a block that has not expired. A nil block has none.
func (m *merged) add(families map[string]*dto.MetricFamily, block *Block, now time.Time) {
	if block == nil {
		return
	}
	if !block.Expires.IsZero() {
		if !now.Before(block.Expires) {
			return
		}
		if m.until.IsZero() || block.Expires.Before(m.until) {
			m.until = block.Expires
		}
	}
	for _, part := range block.bundle {
		m.add(families, part, now)
	}
	for _, s := range block.series {
		f := families[s.family.name]
		if f == nil {
			f = &dto.MetricFamily{Name: &s.family.name, Help: &s.family.help, Type: s.family.kind.Enum()}
			families[s.family.name] = f
			m.families = append(m.families, f)
		}
		f.Metric = append(f.Metric, s.metrics...)
	}
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

// OnlyTenants returns a gatherer of the series whose label tenant is one of the
// names. It omits series without that label, which describe the process.
func OnlyTenants(all prometheus.Gatherer, names []string) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := all.Gather()
		var some []*dto.MetricFamily
		for _, f := range families {
			var metrics []*dto.Metric // A new slice: f.Metric is shared.
			for _, m := range f.Metric {
				if slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool {
					return l.GetName() == "tenant" && slices.Contains(names, l.GetValue())
				}) {
					metrics = append(metrics, m)
				}
			}
			if len(metrics) > 0 {
				some = append(some, &dto.MetricFamily{Name: f.Name, Help: f.Help, Type: f.Type, Unit: f.Unit, Metric: metrics})
			}
		}
		return some, err
	})
}

func sortFamilies(families []*dto.MetricFamily) {
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
}
