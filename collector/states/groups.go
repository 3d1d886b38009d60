package states

import (
	"slices"
	"strings"

	"github.com/mde-exporter/mde_exporter/collector/labels"
)

// groupCounter counts machines in the groups of a grouping.
type groupCounter struct {
	grouping
	fleet   *fleetCount
	tables  []*labels.Table // Of each label.
	groups  []groupCount    // The first is the one of other.
	numbers map[groupKey]int
	recent  [64]struct { // Groups that were looked up, in a place by their key.
		key groupKey
		n   int
	}
	preset     int // So many groups, but for the first, are in the result even if they have no machine.
	byProperty bool
	dropped    *labels.Dropped
}

// groupKey is the numbers of the values of the labels in their tables.
type groupKey [3]uint16

type groupCount struct {
	key      groupKey
	machines int
	counts   [][]int // Of each gauge: one number, or one for each property.
}

// newGroupCounter starts a count in which the groups that last used keep their place.
func newGroupCounter(c *fleetCount, of grouping, last []stateGroup, dropped droppedLabels) *groupCounter {
	g := &groupCounter{grouping: of, fleet: c, numbers: make(map[groupKey]int), dropped: dropped["group"]}
	g.byProperty = slices.ContainsFunc(of.gauges, func(gauge stateGauge) bool { return gauge.byProperty })
	presets := []groupKey{{}}
	for i, l := range of.labels {
		values := slices.Clone(l.preset)
		for _, group := range last {
			values = append(values, group.Values[i])
		}
		table := labels.NewTable(l.limit+len(l.preset), l.missing, values, dropped[l.name])
		g.tables = append(g.tables, table)
		var next []groupKey
		for _, key := range presets {
			for _, value := range l.preset {
				key[i] = uint16(table.Numbers[value])
				next = append(next, key)
			}
		}
		presets = next
	}
	for _, key := range append([]groupKey{{}}, presets...) {
		g.number(key)
	}
	g.preset = len(g.groups)
	for _, group := range last {
		var key groupKey
		for i, value := range group.Values {
			key[i] = uint16(g.tables[i].Numbers[value])
		}
		g.number(key)
	}
	return g
}

// count counts a machine in the group of the values, as an API sent them.
func (g *groupCounter) count(r *stateRecord, values ...[]byte) { g.add(g.group(values...), r) }

// group returns the number of a group.
func (g *groupCounter) group(values ...[]byte) int {
	var key groupKey
	for i, table := range g.tables {
		key[i] = uint16(table.Number(values[i]))
	}
	recent := &g.recent[(key[0]^key[1]<<4^key[2]<<2)%uint16(len(g.recent))]
	if recent.key != key {
		recent.key, recent.n = key, g.number(key)
	}
	return recent.n
}

func (g *groupCounter) number(key groupKey) int {
	n, ok := g.numbers[key]
	if ok {
		return n
	}
	if len(g.groups) >= g.most() || g.byProperty && (g.fleet.cells+1)*len(g.fleet.properties.Names) > maxAttention {
		var names []string
		for i, table := range g.tables {
			names = append(names, table.Names[key[i]])
		}
		g.dropped.Drop(strings.Join(names, "\xff"))
		return 0
	}
	n = len(g.groups)
	group := groupCount{key: key, counts: make([][]int, len(g.gauges))}
	for i, gauge := range g.gauges {
		if !gauge.byProperty {
			group.counts[i] = make([]int, 1)
		}
	}
	g.groups = append(g.groups, group)
	g.numbers[key] = n
	if g.byProperty {
		g.fleet.cells++
	}
	return n
}

// add counts a machine in a group.
func (g *groupCounter) add(group int, r *stateRecord) {
	in := &g.groups[group]
	in.machines++
	for i := range g.gauges {
		switch gauge := &g.gauges[i]; {
		case gauge.counts != nil && !gauge.counts(r):
		case !gauge.byProperty:
			in.counts[i][0]++
		case r.requiresAttention():
			if n := len(g.fleet.properties.Names); len(in.counts[i]) < n {
				in.counts[i] = append(in.counts[i], make([]int, n-len(in.counts[i]))...)
			}
			r.properties.Each(func(property int) { in.counts[i][property]++ })
		}
	}
}

// result returns the counts of a gauge by the values of its groups, sorted.
func (g *groupCounter) result(gauge int, used []int) []stateGroup {
	result := []stateGroup{}
	for n := range g.groups {
		group := &g.groups[n]
		if group.machines == 0 && (n == 0 || n >= g.preset) {
			continue
		}
		out := stateGroup{Counts: group.counts[gauge]}
		for i, table := range g.tables {
			out.Values = append(out.Values, table.Names[group.key[i]])
		}
		if g.gauges[gauge].byProperty {
			out.Counts = make([]int, len(used))
			for i, id := range used {
				if id < len(group.counts[gauge]) {
					out.Counts[i] = group.counts[gauge][id]
				}
			}
		}
		result = append(result, out)
	}
	slices.SortFunc(result, func(a, b stateGroup) int { return slices.Compare(a.Values, b.Values) })
	return result
}
