package states

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector/attention"
	"github.com/mde-exporter/mde_exporter/collector/labels"
	"github.com/mde-exporter/mde_exporter/internal/machineindex"
)

// defaultMaxMachines is the default of Config.MaxMachines.
const defaultMaxMachines = 2_000_000

// stateRecord holds what the groupings count of one machine.
type stateRecord struct {
	build, architecture, revision []byte
	properties                    attention.PropertySet

	input    input
	at       time.Time       // Start of the refresh.
	machine  *client.Machine // Nil if the source is the preview, as is facts.
	facts    *machineFacts
	software software
}

func (r *stateRecord) requiresAttention() bool { return !r.properties.IsEmpty() }

func (r *stateRecord) isActive() bool { return r.facts.derived&edrInactive == 0 }

// fleetCount counts the machines that one refresh reads from one of the sources.
type fleetCount struct {
	source     string
	config     Config
	at         time.Time // Start of the refresh.
	input      input
	properties *labels.Table
	groupings  []*groupCounter
	cells      int // Groups that are counted by property, see maxAttention.
	withoutID  int // Machines without an id.
	record     stateRecord

	combinations *interned[attention.PropertySet]
	lists        *listValues[uint16] // The combination of each list of properties.
	attention    *attention.Machines // Nil until all machines are counted.

	rows *machineindex.Index[previewRow]

	facts        *machineindex.Index[machineFacts]
	revisions    *labels.Table
	versions     *labels.Table
	software     *interned[software]
	revisionText []byte
	derivedIDs   [len(derivedProperties)]int // Numbers in properties; 0 if not looked up yet.
}

// previewRow is a row of machinesecuritystates.
type previewRow struct{ group, combination uint16 }

// machineFacts holds what /api/deviceavinfo and /api/machines say about a machine.
type machineFacts struct {
	refreshed uint32 // Timestamp of its antivirus row, Unix seconds.
	software  uint16 // Index into fleetCount.software.
	derived   derivedSet
	row       rowState
	mode      antivirusMode
	// The number of windows that contain the time of its signatures and scans.
	signatures, quickScan, fullScan uint8
}

// software holds the versions in a machine's antivirus row, as numbers of
// fleetCount.revisions and fleetCount.versions.
type software struct{ revision, engine, platform uint16 }

// newFleetCount starts the count of a refresh. At is the start of the refresh, expected
// the likely number of machines. Incomplete means that the antivirus rows are
// unavailable. Label values of the last result keep their places within the limits.
func newFleetCount(source string, config Config, at time.Time, incomplete bool, expected int, last *statesResult, dropped droppedLabels) *fleetCount {
	if last == nil {
		last = &statesResult{}
	}
	c := &fleetCount{
		source:       source,
		config:       config,
		at:           at,
		properties:   labels.NewTable(maxProperties, labels.Other, last.Properties, dropped["property"]),
		lists:        newListValues[uint16](),
		combinations: newInterned(attention.PropertySet{}, attention.PropertySet{1 << labels.OtherNumber}),
	}
	if source == SourceMachines {
		c.input = antivirusRows
		if incomplete {
			c.input = machineRows
		}
		c.facts = machineindex.New[machineFacts](expected)
		c.revisions = labels.NewTable(maxRevisions, labels.Unknown, nil, dropped["os_revision"])
	} else {
		c.rows = machineindex.New[previewRow](0)
	}
	for _, g := range config.groupings() {
		if g.gauges = slices.DeleteFunc(g.gauges, func(gauge stateGauge) bool { return gauge.from > c.input }); len(g.gauges) == 0 {
			continue
		}
		counter := newGroupCounter(c, g, last.Gauges[g.gauges[0].name], dropped)
		if g.gauges[0].name == versionGauge {
			c.versions = counter.tables[1]
			missing := uint16(c.versions.Missing)
			c.software = newInterned(software{uint16(c.revisions.Missing), missing, missing}, software{})
		}
		c.groupings = append(c.groupings, counter)
	}
	return c
}

// property returns the number of a property by its name as the API sent it.
func (c *fleetCount) property(name []byte) int {
	c.properties.Full = c.cells*(len(c.properties.Names)+1) > maxAttention
	return c.properties.Number(name)
}

// checkMachines returns an error if the number of distinct machines exceeds the limit.
func (c *fleetCount) checkMachines(distinct int, api client.API) error {
	if distinct <= c.config.MaxMachines {
		return nil
	}
	return &client.Error{API: api, Reason: client.ReasonDecode, Message: fmt.Sprintf(
		"more than %d distinct machines: raise security_states.max_machines if the tenant has that many", c.config.MaxMachines)}
}

// addSecurityState adds a row of machinesecuritystates. finishSecurityStates counts its
// machine. A row without a machine id cannot be deduplicated and is counted
// immediately. The index drops duplicate rows whenever the rows exceed the limit of
// machines by an eighth, or by 65,536 if that is more.
func (c *fleetCount) addSecurityState(s *client.SecurityState) error {
	combination := c.lists.of(s.Properties, c.combination)
	group := c.groupings[0].group(s.Build, s.Architecture, s.Revision)
	if s.ID == (client.MachineID{}) {
		c.withoutID++
		c.addRow(previewRow{uint16(group), combination}, 1)
		return c.checkMachines(c.withoutID, client.MachineSecurityStates)
	}
	c.rows.Append(&s.ID, previewRow{uint16(group), combination})
	if c.rows.Len() < c.config.MaxMachines+max(c.config.MaxMachines/8, 1<<16) {
		return nil
	}
	c.rows.Deduplicate()
	return c.checkMachines(c.rows.Len()+c.withoutID, client.MachineSecurityStates)
}

// combination returns the number of a set of properties, given as the list that the API
// sent.
func (c *fleetCount) combination(names client.TextList) uint16 {
	var set attention.PropertySet
	for name := range names.All() {
		set.Put(c.property(name))
	}
	return c.combinations.number(set)
}

// finishSecurityStates counts each machine of the rows that were added, once.
func (c *fleetCount) finishSecurityStates() error {
	c.rows.Deduplicate()
	if err := c.checkMachines(c.rows.Len()+c.withoutID, client.MachineSecurityStates); err != nil {
		return err
	}
	// Machines with the same group and combination are counted in one step.
	var tallies [1 << 10]struct {
		row      previewRow
		machines int
	}
	c.rows.Keep(func(row *previewRow) bool {
		t := &tallies[(row.group*61^row.combination)%uint16(len(tallies))]
		if t.row != *row {
			c.addRow(t.row, t.machines)
			t.row, t.machines = *row, 0
		}
		t.machines++
		return row.combination != 0
	})
	for i := range tallies {
		c.addRow(tallies[i].row, tallies[i].machines)
	}
	combinations := c.combinations.values
	c.setAttention(requiring[previewRow]{c.rows, func(row *previewRow) attention.PropertySet { return combinations[row.combination] }})
	c.rows = nil
	return nil
}

// requiring implements attention.ByID with an index of counted machines. properties
// returns those of a machine by its value.
type requiring[V any] struct {
	*machineindex.Index[V]
	properties func(*V) attention.PropertySet
}

func (r requiring[V]) Properties(id client.MachineID) attention.PropertySet {
	if v := r.Find(&id); v != nil {
		return r.properties(v)
	}
	return attention.PropertySet{}
}

// addRow counts machines whose rows are equal.
func (c *fleetCount) addRow(row previewRow, machines int) {
	if machines > 0 {
		c.record.properties = c.combinations.values[row.combination]
		c.groupings[0].add(int(row.group), &c.record, machines)
	}
}

// isEmpty reports whether no machine was counted.
func (c *fleetCount) isEmpty() bool {
	return !slices.ContainsFunc(c.groupings[0].groups, func(g groupCount) bool { return g.shown })
}

// addAntivirusRow adds the antivirus health of a machine, before addMachine adds the
// machine itself. The newest of several rows of a machine counts. Rows come in any
// order, so equally new rows are merged: all their properties, and the worst of every
// other value.
func (c *fleetCount) addAntivirusRow(row *client.AntivirusHealth) error {
	if row.MachineID == (client.MachineID{}) {
		return nil
	}
	refreshed := uint32(0)
	if !row.DataRefreshedAt.IsZero() {
		refreshed = uint32(max(0, row.DataRefreshedAt.Unix()))
	}
	facts, added := c.facts.Add(&row.MachineID)
	if !added && refreshed < facts.refreshed {
		return nil
	}
	now, versions := c.antivirusFacts(row)
	now.refreshed = refreshed
	if !added && refreshed == facts.refreshed {
		now.derived |= facts.derived
		now.mode = max(now.mode, facts.mode)
		now.signatures = min(now.signatures, facts.signatures)
		now.quickScan, now.fullScan = min(now.quickScan, facts.quickScan), min(now.fullScan, facts.fullScan)
		before := c.software.values[facts.software]
		versions.engine, versions.platform = c.firstVersion(versions.engine, before.engine), c.firstVersion(versions.platform, before.platform)
		if c.hasRevision(facts) {
			versions.revision = before.revision
		}
	}
	now.software = c.software.number(versions)
	*facts = now
	return c.checkMachines(c.facts.Len(), client.DeviceAVInfo)
}

// antivirusFacts converts a row of antivirus health.
func (c *fleetCount) antivirusFacts(row *client.AntivirusHealth) (machineFacts, software) {
	signaturesAt := row.SignaturesPublishedAt
	if signaturesAt.IsZero() {
		signaturesAt = row.SignaturesUpdatedAt
	}
	versions := software{
		revision: uint16(c.revisions.Missing),
		engine:   uint16(c.versions.Number(row.EngineVersion)),
		platform: uint16(c.versions.Number(row.PlatformVersion)),
	}
	if c.config.RevisionLabel {
		versions.revision = uint16(c.revisions.Number(revisionOf(row.OSVersion)))
	}
	return machineFacts{
		derived:    antivirusProperties(row, c.at),
		mode:       antivirusModeOf(row.Mode),
		signatures: signatureWindows.containing(signaturesAt, c.at),
		quickScan:  scanWindows.containing(completed(row.QuickScan), c.at),
		fullScan:   scanWindows.containing(completed(row.FullScan), c.at),
	}, versions
}

// firstVersion returns the version that sorts first, so that the order of rows does not
// matter.
func (c *fleetCount) firstVersion(a, b uint16) uint16 {
	if c.versions.Names[b] < c.versions.Names[a] {
		return b
	}
	return a
}

// hasRevision reports whether the antivirus row of a machine has a revision.
func (c *fleetCount) hasRevision(facts *machineFacts) bool {
	revision := c.software.values[facts.software].revision
	return revision != labels.OtherNumber && int(revision) != c.revisions.Missing
}

// addMachine counts a row of /api/machines. Further rows of the same machine are
// ignored.
func (c *fleetCount) addMachine(m *client.Machine) error {
	var facts *machineFacts
	if m.ID == (client.MachineID{}) {
		facts = &machineFacts{}
	} else {
		facts, _ = c.facts.Add(&m.ID)
		if err := c.checkMachines(c.facts.Len()+c.withoutID, client.Machines); err != nil {
			return err
		}
	}
	if facts.row != rowMissing {
		return nil
	}
	facts.row = rowStateOf(m)
	r := &c.record
	*r = stateRecord{machine: m, facts: facts, input: c.input, at: c.at}
	if facts.row == rowCounted {
		facts.derived |= edrProperties(m.HealthStatus)
		r.software = c.software.values[facts.software]
		r.build, r.architecture, r.properties = m.OSBuild, architectureOf(m), c.derived(facts.derived)
		if c.config.RevisionLabel {
			if r.revision = revisionOf(m.OSVersion); c.hasRevision(facts) {
				c.revisionText = append(c.revisionText[:0], c.revisions.Names[r.software.revision]...)
				r.revision = c.revisionText
			}
		}
	}
	for _, g := range c.groupings {
		if g.records || facts.row == rowCounted {
			g.of(r, g)
		}
	}
	if m.ID != (client.MachineID{}) {
		return nil
	}
	c.withoutID++
	return c.checkMachines(c.facts.Len()+c.withoutID, client.Machines)
}

// finishMachines indexes the machines that require attention, after all rows of
// /api/machines.
func (c *fleetCount) finishMachines() {
	sets := new([1 << 8]attention.PropertySet)
	c.facts.Keep(func(facts *machineFacts) bool {
		if facts.row != rowCounted || facts.derived == 0 {
			return false
		}
		sets[facts.derived] = c.derived(facts.derived)
		return true
	})
	c.setAttention(requiring[machineFacts]{c.facts, func(facts *machineFacts) attention.PropertySet { return sets[facts.derived] }})
	c.facts = nil
}

// setAttention sets the machines that require attention. All machines must be counted.
func (c *fleetCount) setAttention(machines attention.ByID) {
	c.attention = attention.New(machines, c.properties.Names, c.usedProperties())
}

// derived converts a set of derivedProperties into a set of property numbers.
func (c *fleetCount) derived(set derivedSet) attention.PropertySet {
	var out attention.PropertySet
	for rest := uint8(set); rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros8(rest)
		if c.derivedIDs[i] == labels.OtherNumber {
			c.derivedIDs[i] = c.property([]byte(derivedProperties[i]))
		}
		out.Put(c.derivedIDs[i])
	}
	return out
}

// usedProperties returns the numbers of the properties that at least one machine has,
// sorted by name.
func (c *fleetCount) usedProperties() []int {
	var used attention.PropertySet
	for _, g := range c.groupings {
		for _, group := range g.groups {
			for property, n := range group.attention {
				if n > 0 {
					used.Put(property)
				}
			}
		}
	}
	var ids []int
	used.Each(func(id int) { ids = append(ids, id) })
	slices.SortFunc(ids, func(a, b int) int { return strings.Compare(c.properties.Names[a], c.properties.Names[b]) })
	return ids
}

// result returns the counts, sorted.
func (c *fleetCount) result() *statesResult {
	r := &statesResult{
		At: c.at, Source: c.source, RevisionLabel: c.config.RevisionLabel, Incomplete: c.input == machineRows, Gauges: make(map[string][]stateGroup),
	}
	used := c.usedProperties()
	for _, id := range used {
		r.Properties = append(r.Properties, c.properties.Names[id])
	}
	for _, g := range c.groupings {
		g.finish()
		for i, gauge := range g.gauges {
			r.Gauges[gauge.name] = g.result(i, used)
		}
	}
	return r
}
