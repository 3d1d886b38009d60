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
	tables  []*labels.Table // One for each label.
	groups  []groupCount    // The first is that of other.
	numbers map[groupKey]int
	recent  [64]struct { // Cache of looked-up groups by a hash of their key.
		key groupKey
		n   int
	}
	presets    []int // Group numbers of the preset values. The last label varies fastest.
	byProperty bool
	dropped    droppedLabels
}

// groupKey holds the numbers of a group's label values in their tables, 16 bits each.
type groupKey uint64

func (k groupKey) number(label int) int { return int(uint16(k >> (16 * label))) }

func (k groupKey) with(label, number int) groupKey {
	return k&^(0xffff<<(16*label)) | groupKey(number)<<(16*label)
}

type groupCount struct {
	key    groupKey
	shown  bool            // Whether the result includes it: it has machines or preset values.
	counts [mostGauges]int // One for each gauge.
	// attention counts the machines of the gauge by property, indexed by property
	// number.
	attention []int
}

// mostGauges is the maximum number of gauges of a grouping.
const mostGauges = 5

// newGroupCounter returns a counter in which the groups of the last result keep their
// places within the limits.
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
	g.number(0)
	if !slices.ContainsFunc(of.labels, func(l boundedLabel) bool { return l.preset == nil }) {
		g.presets = g.fill(0)
	}
	for _, group := range last {
		var key groupKey
		for i, value := range group.Values {
			key = key.with(i, g.tables[i].Numbers[value])
		}
		g.number(key)
	}
	return g
}

// fill marks the groups of all preset values as shown and returns their numbers. Labels
// without preset values keep the value in key.
func (g *groupCounter) fill(key groupKey) (groups []int) {
	keys := []groupKey{key}
	for i, l := range g.labels {
		if l.preset == nil {
			continue
		}
		var next []groupKey
		for _, key := range keys {
			for _, value := range l.preset {
				next = append(next, key.with(i, g.tables[i].Numbers[value]))
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

// count counts a machine in the group of the label values, as an API sent them.
func (g *groupCounter) count(r *stateRecord, values ...[]byte) { g.add(g.group(values...), r, 1) }

// countPreset counts a machine in the group of the n-th combination of preset values.
func (g *groupCounter) countPreset(r *stateRecord, n int) { g.add(g.presets[n], r, 1) }

// countVersion counts a machine by the version of its n-th component. The version is a
// number of fleetCount.versions.
func (g *groupCounter) countVersion(r *stateRecord, n int, version uint16) {
	g.add(g.groupOf(groupKey(0).with(0, 1+n).with(1, int(version))), r, 1) // 0 is the number of other.
}

// group returns the number of the group of the label values, as an API sent them.
func (g *groupCounter) group(values ...[]byte) int {
	var key groupKey
	for i, table := range g.tables {
		key = key.with(i, table.Number(values[i]))
	}
	return g.groupOf(key)
}

func (g *groupCounter) groupOf(key groupKey) int {
	recent := &g.recent[(key^key>>12^key>>30)%groupKey(len(g.recent))]
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
	crowded := g.byProperty && (g.fleet.cells+1)*len(g.fleet.properties.Names) > maxAttention
	if len(g.groups) >= g.groupLimit() || crowded {
		var names []string
		for i, table := range g.tables {
			names = append(names, table.Names[key.number(i)])
		}
		g.dropped["group"].Drop(strings.Join(names, "\xff"))
		return 0
	}
	n = len(g.groups)
	g.groups = append(g.groups, groupCount{key: key})
	g.numbers[key] = n
	if g.byProperty {
		g.fleet.cells++
	}
	return n
}

// add counts machines with the same record in a group.
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

// finish completes the groups after the last machine.
func (g *groupCounter) finish() {
	last := len(g.labels) - 1
	if g.cumulative {
		for i, n := range g.presets[1:] {
			before, group := &g.groups[g.presets[i]], &g.groups[n]
			if before.key.with(last, 0) == group.key.with(last, 0) {
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

// cut merges all but the most frequent values of the last label into other. The missing
// value is kept.
func (g *groupCounter) cut(last int) {
	numbers := make(map[groupKey][]int) // Group numbers by the values of the other labels.
	for n, group := range g.groups {
		if value := group.key.number(last); group.shown && value != labels.OtherNumber && value != g.tables[last].Missing {
			others := group.key.with(last, labels.OtherNumber)
			numbers[others] = append(numbers[others], n)
		}
	}
	name := func(n int) string { return g.tables[last].Names[g.groups[n].key.number(last)] }
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

// result returns a gauge's counts of the shown groups, sorted by label values. Used are
// the properties to include.
func (g *groupCounter) result(gauge int, used []int) []stateGroup {
	result := []stateGroup{}
	for n := range g.groups {
		group := &g.groups[n]
		if !group.shown {
			continue
		}
		out := stateGroup{Counts: []int{group.counts[gauge]}}
		for i, table := range g.tables {
			out.Values = append(out.Values, table.Names[group.key.number(i)])
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
