package collector

import (
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

// propertySet is a set of properties by their numbers in a labelTable: a bit
// for each of maxProperties names and for other.
type propertySet [2]uint64

func (s *propertySet) put(id int)     { s[id/64] |= 1 << (id % 64) }
func (s propertySet) isEmpty() bool   { return s[0]|s[1] == 0 }
func (s propertySet) has(id int) bool { return s[id/64]&(1<<(id%64)) != 0 }
func (s propertySet) each(f func(int)) {
	for word, rest := range s {
		for ; rest != 0; rest &= rest - 1 {
			f(64*word + bits.TrailingZeros64(rest))
		}
	}
}

// maxGroups bounds the combinations of build, architecture and revision, and
// maxAttention the numbers of machines by group and property, so that a scrape
// stays small even where an API sends every combination. Machines of further
// groups, and further properties, count under other. maxAttention has room for
// all builds with all properties.
const (
	maxGroups    = 2000
	maxAttention = (maxBuilds + 100) * (maxProperties + 1)
)

// DefaultMaxMachines is how many distinct machines a fleet may have unless
// SecurityStatesOptions say otherwise.
const DefaultMaxMachines = 2_000_000

// maxCombinations bounds the distinct sets of properties that the join tells
// apart; machines with further ones count under other there, too.
const maxCombinations = 1 << 16

// fleetCount counts the machines of one refresh.
type fleetCount struct {
	source                                       string
	maxMachines                                  int
	incomplete                                   bool // The antivirus rows could not be read.
	withRevision                                 bool
	builds, architectures, revisions, properties *labelTable
	health, risk, exposure, platforms            *tally // Nil where the source does not tell.

	log          *stateLog     // Of the rows of the preview.
	index        *machineIndex // Of every machine of /api/machines during the refresh.
	combinations []propertySet // Of properties, by the value of an index entry.
	combinationN map[propertySet]uint32
	lastSet      propertySet
	lastSetN     uint32

	groups       []groupCount
	groupNumbers map[groupKey]int
	lastKey      groupKey
	lastGroup    int
	droppedGroup *droppedValues
	machines     int
	nameless     int // Of machines from /api/machines, those without an id.
}

type groupKey struct{ build, architecture, revision uint16 }

type groupCount struct {
	key                 groupKey
	machines, requiring int
	attention           []int // By property.
}

// droppedLabels counts the values without a place of each label.
type droppedLabels struct {
	build, architecture, revision, property, group, health, risk, exposure, platform *droppedValues
}

func newDroppedLabels(m *TenantMetrics, isSecret func(name string) bool) *droppedLabels {
	d := func(label string) *droppedValues { return newDroppedValues(label, m, isSecret) }
	return &droppedLabels{
		build: d("os_build"), architecture: d("architecture"), revision: d("os_revision"), property: d("property"), group: d("group"),
		health: d("health_status"), risk: d("risk_score"), exposure: d("exposure_level"), platform: d("os_platform"),
	}
}

// announce makes the series of every label before anything is dropped.
func (d *droppedLabels) announce() {
	for _, values := range []*droppedValues{
		d.build, d.architecture, d.revision, d.property, d.group, d.health, d.risk, d.exposure, d.platform,
	} {
		values.count(0)
	}
}

// newFleetCount starts a count of at most so many machines, in which the names that
// last used keep their place.
func newFleetCount(maxMachines int, last *statesResult, withRevision bool, dropped *droppedLabels) *fleetCount {
	if last == nil {
		last = &statesResult{}
	}
	var builds, architectures, revisions []string
	for _, g := range last.Groups {
		builds = append(builds, g.Build)
		architectures = append(architectures, g.Architecture)
		revisions = append(revisions, g.Revision)
	}
	c := &fleetCount{
		maxMachines:   maxMachines,
		withRevision:  withRevision,
		builds:        newLabelTable(maxBuilds, unknownValue, builds, dropped.build),
		architectures: newLabelTable(maxArchitectures, unknownValue, architectures, dropped.architecture),
		revisions:     newLabelTable(maxRevisions, unknownValue, nil, dropped.revision),
		properties:    newLabelTable(maxProperties, otherValue, last.Properties, dropped.property),
		log:           newStateLog(maxMachines),
		index:         newMachineIndex(),
		combinations:  []propertySet{{}},
		combinationN:  make(map[propertySet]uint32),
		groupNumbers:  make(map[groupKey]int),
		lastGroup:     -1,
		droppedGroup:  dropped.group,
	}
	c.group(groupKey{otherID, otherID, otherID})
	if withRevision {
		c.revisions = newLabelTable(maxRevisions, unknownValue, revisions, dropped.revision)
	}
	for _, g := range last.Groups {
		key := groupKey{build: uint16(c.builds.ids[g.Build]), architecture: uint16(c.architectures.ids[g.Architecture])}
		if withRevision {
			key.revision = uint16(c.revisions.ids[g.Revision])
		}
		c.group(key)
	}
	return c
}

// countStates makes the count one of machine entities, which tell more.
func (c *fleetCount) countStates(last *statesResult, dropped *droppedLabels) {
	if last == nil {
		last = &statesResult{}
	}
	c.health = newTally(maxStates, "Unknown", healthStates, names(last.Health), dropped.health)
	c.risk = newTally(maxStates, "None", riskScores, names(last.Risk), dropped.risk)
	c.exposure = newTally(maxStates, "None", exposureLevels, names(last.Exposure), dropped.exposure)
	c.platforms = newTally(maxPlatforms, unknownValue, nil, names(last.Platforms), dropped.platform)
}

func names(counts map[string]int) []string { return slices.Sorted(maps.Keys(counts)) }

// add counts one machine and the set of its properties in a group.
func (c *fleetCount) add(group int, set propertySet) {
	c.machines++
	g := &c.groups[group]
	g.machines++
	if set.isEmpty() {
		return
	}
	g.requiring++
	if n := len(c.properties.names); len(g.attention) < n {
		g.attention = append(g.attention, make([]int, n-len(g.attention))...)
	}
	set.each(func(property int) { g.attention[property]++ })
}

// groupOf returns the number of a group by the names of its labels as the API
// sent them.
func (c *fleetCount) groupOf(build, architecture, revision []byte) int {
	key := groupKey{build: uint16(c.builds.id(build)), architecture: uint16(c.architectures.id(architecture))}
	if c.withRevision {
		key.revision = uint16(c.revisions.id(revision))
	}
	return c.group(key)
}

func (c *fleetCount) group(key groupKey) int {
	if key == c.lastKey && c.lastGroup >= 0 {
		return c.lastGroup
	}
	n, ok := c.groupNumbers[key]
	if !ok {
		if len(c.groups) >= maxGroups || (len(c.groups)+1)*len(c.properties.names) > maxAttention {
			c.droppedGroup.drop(c.builds.names[key.build] + "\xff" + c.architectures.names[key.architecture] + "\xff" + c.revisions.names[key.revision])
			return 0
		}
		n = len(c.groups)
		c.groups = append(c.groups, groupCount{key: key})
		c.groupNumbers[key] = n
	}
	c.lastKey, c.lastGroup = key, n
	return n
}

// combination returns the number of a set of properties, 0 for the empty one.
func (c *fleetCount) combination(set propertySet) uint32 {
	if set == c.lastSet {
		return c.lastSetN
	}
	n, ok := c.combinationN[set]
	if !ok && !set.isEmpty() {
		if len(c.combinations) >= maxCombinations && set != onlyOther {
			return c.combination(onlyOther)
		}
		n = uint32(len(c.combinations))
		c.combinations = append(c.combinations, set)
		c.combinationN[set] = n
	}
	c.lastSet, c.lastSetN = set, n
	return n
}

// onlyOther is the set that holds nothing but other.
var onlyOther = propertySet{1 << otherID}

// property returns the number of a property by its name as the API sent it.
func (c *fleetCount) property(name []byte) int {
	c.properties.full = len(c.groups)*(len(c.properties.names)+1) > maxAttention
	return c.properties.id(name)
}

// hasTooMany reports whether more machines were read than the fleet may have.
func (c *fleetCount) hasTooMany() bool {
	return c.machines > c.maxMachines || c.index.len()+c.nameless > c.maxMachines
}

// tooManyMachines is the error of a fleet that has more machines than it may.
func (c *fleetCount) tooManyMachines(api client.API) error {
	return &client.Error{API: api, Reason: client.ReasonDecode, Message: fmt.Sprintf(
		"more than %d distinct machines: raise security_states.max_machines if the tenant has so many", c.maxMachines)}
}

// securityState takes a row of machinesecuritystates. Its machine is counted by
// securityStates, unless it has no id by which it could come again.
func (c *fleetCount) securityState(s *client.SecurityState) error {
	var set propertySet
	for _, name := range s.Properties {
		if len(name) > 0 {
			set.put(c.property(name))
		}
	}
	group := c.groupOf(s.Build, s.Architecture, s.Revision)
	if s.ID != (client.MachineID{}) {
		if !c.log.add(loggedState{id: s.ID, group: uint32(group), combination: c.combination(set)}) {
			return c.tooManyMachines(client.MachineSecurityStates)
		}
		return nil
	}
	if c.add(group, set); c.hasTooMany() {
		return c.tooManyMachines(client.MachineSecurityStates)
	}
	return nil
}

// securityStates counts each machine whose rows were taken, once. The index then
// holds those that require attention.
func (c *fleetCount) securityStates() error {
	c.index.reserve(c.log.requiring)
	for s := range c.log.machines() {
		c.add(int(s.group), c.combinations[s.combination])
		if s.combination != 0 {
			e, _ := c.index.add(s.id)
			e.value = s.combination
		}
	}
	c.log = nil
	if c.hasTooMany() {
		return c.tooManyMachines(client.MachineSecurityStates)
	}
	return nil
}

// A fleet from /api/machines uses an index entry's value for what is known of
// the machine: its derived properties, its revision, whether a row of it came and
// whether that was counted. The stamp is the age of its antivirus row.
const (
	derivedMask   = 1<<8 - 1
	revisionShift = 8
	revisionMask  = 1<<12 - 1
	countedBit    = 1 << 30
	seenBit       = 1 << 31
)

// antivirusRow takes the antivirus health of a machine that is still to come.
// Of several rows for one machine the newest holds; equally new ones all do, as
// they come in any order.
func (c *fleetCount) antivirusRow(row *client.AntivirusHealth, now time.Time) error {
	if row.MachineID == (client.MachineID{}) {
		return nil
	}
	stamp := uint32(0)
	if !row.DataRefreshedAt.IsZero() {
		stamp = uint32(max(0, row.DataRefreshedAt.Unix()))
	}
	entry, added := c.index.add(row.MachineID)
	if c.hasTooMany() {
		return c.tooManyMachines(client.DeviceAVInfo)
	}
	switch {
	case added || stamp > entry.stamp:
		entry.value = 0
	case stamp < entry.stamp:
		return nil
	}
	entry.stamp = stamp
	entry.value |= uint32(antivirusProperties(row, now))
	if revision := int(entry.value >> revisionShift); c.withRevision && (revision == 0 || revision == c.revisions.missing) {
		entry.value = entry.value&derivedMask | uint32(c.revisions.id(revisionOf(row.OSVersion)))<<revisionShift
	}
	return nil
}

// machine counts a row of /api/machines, unless it has no security state or is not
// the first of its machine.
func (c *fleetCount) machine(m *client.Machine) error {
	set := edrProperties(m.HealthStatus)
	revision := 0
	if m.ID == (client.MachineID{}) {
		if !hasSecurityState(m) {
			return nil
		}
		if c.nameless++; c.hasTooMany() {
			return c.tooManyMachines(client.Machines)
		}
	} else {
		entry, _ := c.index.add(m.ID)
		if c.hasTooMany() {
			return c.tooManyMachines(client.Machines)
		}
		if entry.value&seenBit != 0 {
			return nil
		}
		entry.value |= seenBit
		if !hasSecurityState(m) {
			return nil
		}
		set |= derivedSet(entry.value & derivedMask)
		revision = int(entry.value >> revisionShift & revisionMask)
		entry.value |= countedBit | uint32(set)
	}
	key := groupKey{
		build:        uint16(c.builds.id(m.OSBuild)),
		architecture: uint16(c.architectures.id(architectureOf(m))),
	}
	if c.withRevision {
		if revision == 0 || revision == c.revisions.missing {
			revision = c.revisions.id(revisionOf(m.OSVersion))
		}
		key.revision = uint16(revision)
	}
	c.add(c.group(key), c.derived(set))
	c.health.count(m.HealthStatus)
	c.risk.count(m.RiskScore)
	c.exposure.count(m.ExposureLevel)
	c.platforms.count(m.OSPlatform)
	return nil
}

// derived turns a set of derivedProperties into one of this count's numbers.
func (c *fleetCount) derived(set derivedSet) propertySet {
	var out propertySet
	for rest := uint8(set); rest != 0; rest &= rest - 1 {
		out.put(c.property([]byte(derivedProperties[bits.TrailingZeros8(rest)])))
	}
	return out
}

// attention reduces the index to the machines that require attention, which is
// what the join with watched domains needs, and hands it over. It ends the count.
func (c *fleetCount) attention() *attentionIndex {
	derived := c.health != nil
	c.index.keep(func(e *indexEntry) bool {
		if !derived {
			return e.value != 0
		}
		if e.value&countedBit == 0 || e.value&derivedMask == 0 {
			return false
		}
		e.value = c.combination(c.derived(derivedSet(e.value & derivedMask)))
		return true
	})
	a := &attentionIndex{index: c.index, combinations: c.combinations, ids: c.usedProperties()}
	for _, id := range a.ids {
		a.properties = append(a.properties, c.properties.names[id])
	}
	c.index = nil
	return a
}

// usedProperties returns the numbers of the properties that a machine has,
// sorted by name.
func (c *fleetCount) usedProperties() []int {
	var used propertySet
	for _, g := range c.groups {
		for property, n := range g.attention {
			if n > 0 {
				used.put(property)
			}
		}
	}
	var ids []int
	used.each(func(id int) { ids = append(ids, id) })
	slices.SortFunc(ids, func(a, b int) int { return strings.Compare(c.properties.names[a], c.properties.names[b]) })
	return ids
}

// result returns what was counted, sorted.
func (c *fleetCount) result(at time.Time) *statesResult {
	r := &statesResult{At: at, Source: c.source, RevisionLabel: c.withRevision, Incomplete: c.incomplete}
	used := c.usedProperties()
	for _, id := range used {
		r.Properties = append(r.Properties, c.properties.names[id])
	}
	for _, g := range c.groups {
		if g.machines == 0 {
			continue
		}
		out := stateGroup{
			Build:        c.builds.names[g.key.build],
			Architecture: c.architectures.names[g.key.architecture],
			Machines:     g.machines,
			Requiring:    g.requiring,
			Attention:    make([]int, len(used)),
		}
		if c.withRevision {
			out.Revision = c.revisions.names[g.key.revision]
		}
		for i, id := range used {
			if id < len(g.attention) {
				out.Attention[i] = g.attention[id]
			}
		}
		r.Groups = append(r.Groups, out)
	}
	slices.SortFunc(r.Groups, stateGroup.compare)
	if c.health != nil {
		r.Health, r.Risk, r.Exposure, r.Platforms = c.health.result(), c.risk.result(), c.exposure.result(), c.platforms.result()
	}
	return r
}

// tally counts machines by one label.
type tally struct {
	table  *labelTable
	counts []int
	always int // The first names are part of the result even at 0.
}

// newTally makes a tally whose preset names are always part of the result.
func newTally(limit int, missing string, preset, seed []string, dropped *droppedValues) *tally {
	t := &tally{table: newLabelTable(limit+len(preset), missing, slices.Concat(preset, seed), dropped)}
	if slices.Contains(preset, missing) {
		t.always = 1 + len(preset)
	}
	t.counts = make([]int, len(t.table.names))
	return t
}

func (t *tally) count(raw []byte) {
	id := t.table.id(raw)
	if id >= len(t.counts) {
		t.counts = append(t.counts, make([]int, id+1-len(t.counts))...)
	}
	t.counts[id]++
}

func (t *tally) result() map[string]int {
	r := make(map[string]int)
	for id, n := range t.counts {
		if n > 0 || id != otherID && id < t.always {
			r[t.table.names[id]] = n
		}
	}
	return r
}
