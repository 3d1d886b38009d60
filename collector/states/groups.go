package states

import (
	"cmp"
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
	presets    []int // The groups of preset values, those of the last label innermost.
	byProperty bool
	dropped    droppedLabels
}

// groupKey is the numbers of the values of the labels in their tables.
type groupKey [3]uint16

type groupCount struct {
	key    groupKey
	shown  bool            // It is in the result: it has a machine, or is one of preset values.
	counts [mostGauges]int // Of each gauge.
	// attention is the count of each property, of the gauge by property.
	attention []int
}

// mostGauges is how many gauges a grouping may have.
const mostGauges = 5

// newGroupCounter starts a count in which the groups that last used keep their place.
func newGroupCounter(c *fleetCount, of grouping, last []stateGroup, dropped droppedLabels) *groupCounter {
	g := &groupCounter{grouping: of, fleet: c, numbers: make(map[groupKey]int), dropped: dropped}
	g.byProperty = slices.ContainsFunc(of.gauges, func(gauge stateGauge) bool { return gauge.byProperty })
	for i, l := range of.labels {
		values := slices.Clone(l.preset)
		for _, group := range last {
			values = append(values, group.Values[i])
		}
		table := labels.NewTable(l.limit+len(l.preset), cmp.Or(l.missing, labels.Other), values, dropped[l.name])
		table.Documented = l.preset
		g.tables = append(g.tables, table)
	}
	g.number(groupKey{})
	if !slices.ContainsFunc(of.labels, func(l boundedLabel) bool { return l.preset == nil }) {
		g.presets = g.fill(groupKey{})
	}
	for _, group := range last {
		var key groupKey
		for i, value := range group.Values {
			key[i] = uint16(g.tables[i].Numbers[value])
		}
		g.number(key)
	}
	return g
}

// fill shows the groups of all preset values, with the values of the key for labels
// that have none, and returns their numbers.
func (g *groupCounter) fill(key groupKey) (groups []int) {
	keys := []groupKey{key}
	for i, l := range g.labels {
		if l.preset == nil {
			continue
		}
		var next []groupKey
		for _, key := range keys {
			for _, value := range l.preset {
				key[i] = uint16(g.tables[i].Numbers[value])
				next = append(next, key)
			}
		}
		keys = next
	}
	for _, key := range keys {
		n := g.number(key)
		g.groups[n].shown = true
		groups = append(groups, n)
	}
	return groups
}

// count counts a machine in the group of the values, as an API sent them.
func (g *groupCounter) count(r *stateRecord, values ...[]byte) { g.add(g.group(values...), r, 1) }

// countPreset counts a machine in the group of the n-th preset values.
func (g *groupCounter) countPreset(r *stateRecord, n int) { g.add(g.presets[n], r, 1) }

// countVersion counts a machine by the version, a number of fleetCount.versions, of
// the n-th component.
func (g *groupCounter) countVersion(r *stateRecord, n int, version uint16) {
	g.add(g.groupOf(groupKey{uint16(1 + n), version}), r, 1) // The number 0 is that of other.
}

// group returns the number of a group.
func (g *groupCounter) group(values ...[]byte) int {
	var key groupKey
	for i, table := range g.tables {
		key[i] = uint16(table.Number(values[i]))
	}
	return g.groupOf(key)
}

func (g *groupCounter) groupOf(key groupKey) int {
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
	crowded := g.countsCells() && (g.fleet.cells+1)*len(g.fleet.properties.Names) > maxAttention
	if len(g.groups) >= g.most() || crowded {
		var names []string
		for i, table := range g.tables {
			names = append(names, table.Names[key[i]])
		}
		g.dropped["group"].Drop(strings.Join(names, "\xff"))
		return 0
	}
	n = len(g.groups)
	g.groups = append(g.groups, groupCount{key: key})
	g.numbers[key] = n
	if g.countsCells() {
		g.fleet.cells++
	}
	return n
}

// countsCells reports whether maxAttention bounds the groups. Those of one label are
// few.
func (g *groupCounter) countsCells() bool { return g.byProperty && len(g.labels) > 1 }

// add counts machines of the same record in a group.
func (g *groupCounter) add(group int, r *stateRecord, machines int) {
	in := &g.groups[group]
	in.shown = true
	for i := range g.gauges {
		switch gauge := &g.gauges[i]; {
		case gauge.counts != nil && !gauge.counts(r):
		case !gauge.byProperty:
			in.counts[i] += machines
		case r.requiresAttention():
			if n := len(g.fleet.properties.Names); len(in.attention) < n {
				in.attention = append(in.attention, make([]int, n-len(in.attention))...)
			}
			r.properties.Each(func(property int) { in.attention[property] += machines })
		}
	}
}

// finish makes the groups of the result of those that were counted.
func (g *groupCounter) finish() {
	last := len(g.labels) - 1
	if g.cumulative {
		for i, n := range g.presets[1:] {
			before, group := &g.groups[g.presets[i]], &g.groups[n]
			if slices.Equal(before.key[:last], group.key[:last]) {
				group.counts[0] += before.counts[0]
			}
		}
	}
	if g.frequent > 0 {
		g.cut(last)
	}
	if g.filled {
		for _, group := range slices.Clone(g.groups) {
			if group.shown {
				g.fill(group.key)
			}
		}
	}
}

// cut adds the groups of all but the most frequent values of the last label to other.
// The value of a missing one stays.
func (g *groupCounter) cut(last int) {
	numbers := make(map[groupKey][]int) // Of the groups by their values of the other labels.
	for n, group := range g.groups {
		if value := int(group.key[last]); group.shown && value != labels.OtherNumber && value != g.tables[last].Missing {
			group.key[last] = labels.OtherNumber
			numbers[group.key] = append(numbers[group.key], n)
		}
	}
	name := func(n int) string { return g.tables[last].Names[g.groups[n].key[last]] }
	for other, numbers := range numbers {
		if len(numbers) <= g.frequent {
			continue
		}
		slices.SortFunc(numbers, func(a, b int) int {
			return cmp.Or(cmp.Compare(g.groups[b].counts[0], g.groups[a].counts[0]), strings.Compare(name(a), name(b)))
		})
		into := g.number(other)
		for _, n := range numbers[g.frequent:] {
			g.groups[into].counts[0] += g.groups[n].counts[0]
			g.groups[n].shown = false
			g.dropped[g.labels[last].name].Drop(name(n))
		}
		g.groups[into].shown = true
	}
}

// result returns the counts of a gauge by the values of its groups, sorted.
func (g *groupCounter) result(gauge int, used []int) []stateGroup {
	result := []stateGroup{}
	for n := range g.groups {
		group := &g.groups[n]
		if !group.shown {
			continue
		}
		out := stateGroup{Counts: []int{group.counts[gauge]}}
		for i, table := range g.tables {
			out.Values = append(out.Values, table.Names[group.key[i]])
		}
		if g.gauges[gauge].byProperty {
			out.Counts = make([]int, len(used))
			for i, id := range used {
				if id < len(group.attention) {
					out.Counts[i] = group.attention[id]
				}
			}
		}
		result = append(result, out)
	}
	slices.SortFunc(result, func(a, b stateGroup) int { return slices.Compare(a.Values, b.Values) })
	return result
}
