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

// defaultMaxMachines is how many distinct machines a fleet may have unless
// Config.MaxMachines says otherwise.
const defaultMaxMachines = 2_000_000

// stateRecord is a machine as it is counted.
type stateRecord struct {
	build, architecture, revision []byte
	properties                    attention.PropertySet

	input    input
	at       time.Time       // When the refresh began.
	machine  *client.Machine // Nil where the source is the preview, like known.
	known    *knownMachine
	software software
}

func (r *stateRecord) requiresAttention() bool { return !r.properties.IsEmpty() }

func (r *stateRecord) isActive() bool { return r.known.derived&edrInactive == 0 }

// fleetCount counts the machines of one refresh, from one of the sources.
type fleetCount struct {
	source     string
	config     Config
	at         time.Time // When the refresh began.
	input      input
	properties *labels.Table
	groupings  []*groupCounter
	cells      int // Groups that are counted by property.
	machines   int
	nameless   int // Machines without an id.
	record     stateRecord

	combinations *interned[attention.PropertySet]
	lists        *listValues[uint16] // The combination of each list of properties.
	attention    *attention.Machines // Once all are counted.

	rows *machineindex.Index[previewRow]

	known        *machineindex.Index[knownMachine]
	revisions    *labels.Table
	versions     *labels.Table
	software     *interned[software]
	revisionText []byte
	derivedIDs   [len(derivedProperties)]int // In properties; 0 where not looked up yet.
}

// previewRow is a row of machinesecuritystates.
type previewRow struct{ group, combination uint16 }

// knownMachine is what is known of a machine of /api/deviceavinfo or /api/machines.
type knownMachine struct {
	refreshed uint32 // The time of its antivirus row, in seconds since 1970.
	software  uint16 // Of fleetCount.software.
	derived   derivedSet
	row       rowState
	mode      antivirusMode
	// How many of the windows hold the time of its signatures and scans.
	signatures, quickScan, fullScan uint8
}

// software is what the antivirus row of a machine says of versions, by their numbers
// in fleetCount.revisions and fleetCount.versions.
type software struct{ revision, engine, platform uint16 }

// newFleetCount starts a count of a refresh that began at a time, of expected machines.
// Incomplete says that the antivirus rows cannot be read. The names that last used
// keep their place.
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
		c.known = machineindex.New[knownMachine](expected)
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

// checkMachines is the error of a fleet that has more distinct machines than it may.
func (c *fleetCount) checkMachines(distinct int, api client.API) error {
	if distinct <= c.config.MaxMachines {
		return nil
	}
	return &client.Error{API: api, Reason: client.ReasonDecode, Message: fmt.Sprintf(
		"more than %d distinct machines: raise security_states.max_machines if the tenant has so many", c.config.MaxMachines)}
}

// securityState takes a row of machinesecuritystates. Its machine is counted by
// securityStates, unless it has no id by which it could come again. Rows of machines
// that came before are dropped once there are some tens of thousands of them, or an
// eighth of all machines.
func (c *fleetCount) securityState(s *client.SecurityState) error {
	combination := c.lists.of(s.Properties, c.combination)
	group := c.groupings[0].group(s.Build, s.Architecture, s.Revision)
	if s.ID == (client.MachineID{}) {
		c.nameless++
		c.machines++
		c.addRow(previewRow{uint16(group), combination}, 1)
		return c.checkMachines(c.nameless, client.MachineSecurityStates)
	}
	c.rows.Append(s.ID, previewRow{uint16(group), combination})
	if c.rows.Len() < c.config.MaxMachines+max(c.config.MaxMachines/8, 1<<16) {
		return nil
	}
	c.rows.Settle()
	return c.checkMachines(c.rows.Len()+c.nameless, client.MachineSecurityStates)
}

// combination returns the number of the combination of a list of properties.
func (c *fleetCount) combination(names client.TextList) uint16 {
	var set attention.PropertySet
	for name := range names.All() {
		set.Put(c.property(name))
	}
	return c.combinations.number(set)
}

// securityStates counts each machine whose rows were taken, once.
func (c *fleetCount) securityStates() error {
	c.rows.Settle()
	if err := c.checkMachines(c.rows.Len()+c.nameless, client.MachineSecurityStates); err != nil {
		return err
	}
	// Machines that have the same group and combination are counted at once.
	var tallies [1 << 10]struct {
		row      previewRow
		machines int
	}
	index := requiring(c.rows, func(row *previewRow) uint16 {
		t := &tallies[(row.group*61^row.combination)%uint16(len(tallies))]
		if t.row != *row {
			c.addRow(t.row, t.machines)
			t.row, t.machines = *row, 0
		}
		t.machines++
		return row.combination
	})
	for i := range tallies {
		c.addRow(tallies[i].row, tallies[i].machines)
	}
	c.setAttention(index)
	c.machines += c.rows.Len()
	c.rows = nil
	return nil
}

// addRow counts machines that have the same row.
func (c *fleetCount) addRow(row previewRow, machines int) {
	if machines > 0 {
		c.record.properties = c.combinations.values[row.combination]
		c.groupings[0].add(int(row.group), &c.record, machines)
	}
}

// antivirusRow takes the antivirus health of a machine that is still to come.
// Of several rows for one machine the newest holds. Rows come in any order, so of
// equally new ones all properties hold, and of each other fact the worst.
func (c *fleetCount) antivirusRow(row *client.AntivirusHealth) error {
	if row.MachineID == (client.MachineID{}) {
		return nil
	}
	refreshed := uint32(0)
	if !row.DataRefreshedAt.IsZero() {
		refreshed = uint32(max(0, row.DataRefreshedAt.Unix()))
	}
	known, added := c.known.Add(row.MachineID)
	if !added && refreshed < known.refreshed {
		return nil
	}
	now, versions := c.antivirusFacts(row)
	now.refreshed = refreshed
	if !added && refreshed == known.refreshed {
		now.derived |= known.derived
		now.mode = max(now.mode, known.mode)
		now.signatures = min(now.signatures, known.signatures)
		now.quickScan, now.fullScan = min(now.quickScan, known.quickScan), min(now.fullScan, known.fullScan)
		before := c.software.values[known.software]
		versions.engine, versions.platform = c.firstVersion(versions.engine, before.engine), c.firstVersion(versions.platform, before.platform)
		if c.hasRevision(known) {
			versions.revision = before.revision
		}
	}
	now.software = c.software.number(versions)
	*known = now
	return c.checkMachines(c.known.Len(), client.DeviceAVInfo)
}

// antivirusFacts returns what a row of antivirus health says.
func (c *fleetCount) antivirusFacts(row *client.AntivirusHealth) (knownMachine, software) {
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
	return knownMachine{
		derived:    antivirusProperties(row, c.at),
		mode:       antivirusModeOf(row.Mode),
		signatures: signatureWindows.holding(signaturesAt, c.at),
		quickScan:  scanWindows.holding(completed(row.QuickScan), c.at),
		fullScan:   scanWindows.holding(completed(row.FullScan), c.at),
	}, versions
}

// firstVersion returns one of two versions, whatever their order.
func (c *fleetCount) firstVersion(a, b uint16) uint16 {
	if c.versions.Names[b] < c.versions.Names[a] {
		return b
	}
	return a
}

// hasRevision reports whether the antivirus row of a machine has a revision.
func (c *fleetCount) hasRevision(known *knownMachine) bool {
	revision := c.software.values[known.software].revision
	return revision != labels.OtherNumber && int(revision) != c.revisions.Missing
}

// machine counts a row of /api/machines, unless it is not the first of its machine.
func (c *fleetCount) machine(m *client.Machine) error {
	var known *knownMachine
	if m.ID == (client.MachineID{}) {
		known = &knownMachine{}
	} else {
		known, _ = c.known.Add(m.ID)
		if err := c.checkMachines(c.known.Len()+c.nameless, client.Machines); err != nil {
			return err
		}
	}
	if known.row != rowMissing {
		return nil
	}
	known.row = rowStateOf(m)
	r := &c.record
	*r = stateRecord{machine: m, known: known, input: c.input, at: c.at}
	if known.row == rowCounted {
		known.derived |= edrProperties(m.HealthStatus)
		r.software = c.software.values[known.software]
		r.build, r.architecture, r.properties = m.OSBuild, architectureOf(m), c.derived(known.derived)
		if c.config.RevisionLabel {
			if r.revision = revisionOf(m.OSVersion); c.hasRevision(known) {
				c.revisionText = append(c.revisionText[:0], c.revisions.Names[r.software.revision]...)
				r.revision = c.revisionText
			}
		}
		c.machines++
	}
	for _, g := range c.groupings {
		if g.records || known.row == rowCounted {
			g.of(r, g)
		}
	}
	if m.ID != (client.MachineID{}) {
		return nil
	}
	c.nameless++
	return c.checkMachines(c.known.Len()+c.nameless, client.Machines)
}

// allMachines ends a count of /api/machines.
func (c *fleetCount) allMachines() {
	c.setAttention(requiring(c.known, func(known *knownMachine) uint16 {
		if known.row != rowCounted {
			return 0
		}
		return c.combinations.number(c.derived(known.derived))
	}))
	c.known = nil
}

// requiring indexes the machines of which combination is not 0.
func requiring[V any](machines *machineindex.Index[V], combination func(*V) uint16) *machineindex.Index[attention.Machine] {
	return machineindex.Select(machines, func(v *V) (attention.Machine, bool) {
		n := combination(v)
		return attention.Machine{Set: n}, n != 0
	})
}

// setAttention sets the machines that require attention, once all are counted.
func (c *fleetCount) setAttention(machines *machineindex.Index[attention.Machine]) {
	c.attention = attention.New(machines, c.combinations.values, c.properties.Names, c.usedProperties())
}

// derived turns a set of derivedProperties into one of this count's numbers.
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

// usedProperties returns the numbers of the properties that a machine has,
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

// result returns what was counted, sorted.
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
