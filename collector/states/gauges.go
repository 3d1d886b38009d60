package states

import (
	"slices"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/labels"
)

// input says which rows a gauge needs.
type input uint8

const (
	anySource     input = iota
	machineRows         // Rows of /api/machines.
	antivirusRows       // Rows of /api/machines and /api/deviceavinfo.
)

// A grouping declares labels, and gauges that count the machines with the same values
// of these labels.
type grouping struct {
	labels []boundedLabel
	// of counts a machine in the groups that it belongs to: one, several, or none.
	of     func(*stateRecord, *groupCounter)
	gauges []stateGauge
	// records passes all distinct records of /api/machines to of, not only the machines
	// with a security state.
	records bool
	// cumulative adds the count of each value of the last label to the next value's.
	cumulative bool
	// filled exposes the preset values, at 0 if no machine has them, beside each value
	// of the labels that have no preset values.
	filled bool
	// frequent limits the values of the last label that are exposed for each value of
	// the label before: the most frequent ones stay, the rest counts under other. Zero
	// means no limit.
	frequent int
	// maxGroups limits the groups, including those of other and of missing values. Zero
	// means the constant maxGroups for several labels, and the label's limit for a
	// single label.
	maxGroups int
}

// stateGauge counts the machines of each group for which counts returns true. A nil
// counts means all machines.
type stateGauge struct {
	name, help string
	counts     func(*stateRecord) bool
	// byProperty adds the label property and counts a machine once for each of its
	// properties. At most one gauge of a grouping may set it.
	byProperty bool
	// from is what the gauge is counted from. The gauge is absent if that is
	// unavailable.
	from input
}

// boundedLabel is a label whose values come from an API. Values past the limit count
// under other.
type boundedLabel struct {
	name  string
	limit int
	// missing replaces an empty value.
	missing string
	// preset values are compared case-insensitively and do not count towards the limit.
	// With limit 0 they are the only values. They are exposed even at 0 if every label
	// of the grouping has preset values.
	preset []string
}

// Limits of the distinct values of each label in a tenant. Further values count under
// other.
const (
	maxProperties    = 100
	maxArchitectures = 50
	maxBuilds        = 1000
	maxRevisions     = 1000
	maxPlatforms     = 100
	maxStates        = 20     // Health, risk and exposure, whose values are documented.
	maxOnboarding    = 20     // Including the documented ones.
	maxComponents    = 50     // Exposed versions of each component.
	maxVersions      = 10_000 // Counted versions, of which the most frequent ones are exposed.
	maxTags          = 200
)

const (
	machinesGauge  = "mde_machines"
	attentionGauge = "mde_machines_attention"
	requiringGauge = "mde_machines_requiring_attention"
	versionGauge   = "mde_machines_component_version"
)

// maxGroups limits the groups of a grouping with several labels. maxAttention limits
// the counts by group and property. Both keep a scrape small even if an API sends every
// combination. Further groups and properties count under other. maxAttention has room
// for all builds with all properties.
const (
	maxGroups    = 2000
	maxAttention = (maxBuilds + 100) * (maxProperties + 1)
)

// The values that the APIs document. Each is exposed even at 0.
var (
	healthStates       = []string{"Active", "Inactive", "ImpairedCommunication", "NoSensorData", "NoSensorDataImpairedCommunication", "Unknown"}
	exposureLevels     = []string{"None", "Low", "Medium", "High"}
	onboardingStatuses = []string{"Onboarded", "CanBeOnboarded", "Unsupported", "InsufficientInfo"}
)

// components are the values of the label component.
var components = []string{"sensor", "antivirus_engine", "antivirus_platform"}

// groupings returns what is counted. The first grouping counts by build.
func (c *Config) groupings() []grouping {
	builds := []boundedLabel{
		{name: "os_build", limit: maxBuilds, missing: labels.Unknown},
		{name: "architecture", limit: maxArchitectures, missing: labels.Unknown},
		{name: "os_revision", limit: maxRevisions, missing: labels.Unknown},
	}
	if !c.RevisionLabel {
		builds = builds[:2]
	}
	table := []grouping{
		{
			labels: builds,
			of:     func(r *stateRecord, in *groupCounter) { in.count(r, r.build, r.architecture, r.revision) },
			gauges: []stateGauge{
				{name: machinesGauge, help: "Machines with a security state, by OS build and architecture."},
				{name: attentionGauge, byProperty: true,
					help: "Machines whose property requires attention. A machine counts once for each of its properties, so a sum over properties is not a number of machines."},
				{name: requiringGauge, counts: (*stateRecord).requiresAttention,
					help: "Machines with at least one property that requires attention. A machine counts once."},
				{name: "mde_active_machines", counts: (*stateRecord).isActive, from: machineRows,
					help: "Machines with a security state whose sensor health is not Inactive."},
				{name: "mde_active_machines_requiring_attention", from: machineRows,
					counts: func(r *stateRecord) bool { return r.isActive() && r.requiresAttention() },
					help:   "Machines whose sensor health is not Inactive, with at least one property that requires attention."},
			},
		},
		machinesBy("mde_machines_health", "Machines by sensor health; Inactive: no report for seven days. From /api/machines only.",
			boundedLabel{name: "health_status", limit: maxStates, missing: "Unknown", preset: healthStates}, func(r *stateRecord) []byte { return r.machine.HealthStatus }),
		machinesBy("mde_machines_risk", "Machines by Defender's risk score. From /api/machines only.",
			boundedLabel{name: "risk_score", limit: maxStates, missing: "None", preset: client.RiskScores}, func(r *stateRecord) []byte { return r.machine.RiskScore }),
		machinesBy("mde_machines_exposure", "Machines by exposure level. From /api/machines only.",
			boundedLabel{name: "exposure_level", limit: maxStates, missing: "None", preset: exposureLevels}, func(r *stateRecord) []byte { return r.machine.ExposureLevel }),
		machinesBy("mde_machines_os_platform", "Machines by operating system. From /api/machines only.",
			boundedLabel{name: "os_platform", limit: maxPlatforms, missing: labels.Unknown}, func(r *stateRecord) []byte { return r.machine.OSPlatform }),
		machinesWithin("mde_machines_seen_within", "Machines last seen within the window before the start of the refresh; cumulative. From /api/machines only.", machineRows,
			seenWindows, func(r *stateRecord) uint8 { return seenWindows.containing(r.machine.LastSeen, r.at) }),
		{
			labels:  []boundedLabel{{name: "disposition", preset: dispositions[rowMerged:]}},
			of:      func(r *stateRecord, in *groupCounter) { in.countPreset(r, int(r.facts.row-rowMerged)) },
			gauges:  []stateGauge{{name: "mde_machine_records", help: "Records of /api/machines by what became of them; only those counted have a security state.", from: machineRows}},
			records: true,
		},
		{
			labels: []boundedLabel{
				{name: "onboarding_status", limit: maxOnboarding - len(onboardingStatuses), missing: labels.Unknown, preset: onboardingStatuses},
				{name: "os_platform", limit: maxPlatforms, missing: labels.Unknown},
			},
			of: func(r *stateRecord, in *groupCounter) {
				if r.facts.row != rowMerged {
					in.count(r, r.machine.OnboardingStatus, r.machine.OSPlatform)
				}
			},
			gauges:    []stateGauge{{name: "mde_machines_onboarding", help: "Records of /api/machines by onboarding status and operating system, without merged ones.", from: machineRows}},
			records:   true,
			filled:    true,
			maxGroups: (maxOnboarding + 2) * (maxPlatforms + 2),
		},
		{
			labels: []boundedLabel{{name: "mode", preset: antivirusModes}},
			of:     func(r *stateRecord, in *groupCounter) { in.countPreset(r, int(r.facts.mode)) },
			gauges: []stateGauge{{name: "mde_machines_antivirus_mode", help: "Machines by antivirus mode; unknown without antivirus health. From /api/deviceavinfo.", from: antivirusRows}},
		},
		machinesWithin("mde_machines_antivirus_signatures_within", "Machines whose antivirus signatures were published within the window before the start of the refresh; cumulative. From /api/deviceavinfo.", antivirusRows,
			signatureWindows, func(r *stateRecord) uint8 { return r.facts.signatures }),
		{
			labels: []boundedLabel{{name: "scan", preset: []string{"quick", "full"}}, scanWindows.label()},
			of: func(r *stateRecord, in *groupCounter) {
				for scan, n := range [...]uint8{r.facts.quickScan, r.facts.fullScan} {
					if n > 0 {
						in.countPreset(r, scan*len(scanWindows)+scanWindows.shortest(n))
					}
				}
			},
			gauges: []stateGauge{{name: "mde_machines_antivirus_scanned_within", from: antivirusRows,
				help: "Machines whose last scan of the kind completed within the window before the start of the refresh; cumulative. From /api/deviceavinfo."}},
			cumulative: true,
		},
		{
			labels: []boundedLabel{
				{name: "component", preset: components},
				{name: "version", limit: maxVersions, missing: labels.Unknown},
			},
			of: func(r *stateRecord, in *groupCounter) {
				in.countVersion(r, 0, uint16(in.tables[1].Number(r.machine.AgentVersion)))
				if r.input == antivirusRows {
					in.countVersion(r, 1, r.software.engine)
					in.countVersion(r, 2, r.software.platform)
				}
			},
			gauges: []stateGauge{{name: versionGauge, from: machineRows,
				help: "Machines by version of the sensor, the antivirus engine and the antivirus platform. Sensor from /api/machines, others from /api/deviceavinfo."}},
			frequent:  maxComponents,
			maxGroups: 3*(maxVersions+2) + 1,
		},
	}
	if c.DeviceGroups {
		table = append(table, grouping{
			labels: []boundedLabel{{name: "device_group", limit: labels.MaxDeviceGroups, missing: labels.NoDeviceGroup}},
			of:     func(r *stateRecord, in *groupCounter) { in.count(r, labels.DeviceGroup(r.machine.DeviceGroup)) },
			gauges: membershipGauges("mde_device_group_machines", "of the device group"),
		})
	}
	if len(c.Tags) > 0 {
		tags := newTagSet(c.Tags)
		table = append(table, grouping{
			labels: []boundedLabel{{name: "tag", missing: labels.Other, preset: c.Tags}},
			of: func(r *stateRecord, in *groupCounter) {
				for _, tag := range tags.of(r.machine) {
					in.countPreset(r, tag)
				}
			},
			gauges: membershipGauges("mde_tag_machines", "that carry the tag"),
		})
	}
	return table
}

// machinesBy returns a gauge of the machines of /api/machines by one of their fields.
func machinesBy(name, help string, label boundedLabel, field func(*stateRecord) []byte) grouping {
	return grouping{
		labels: []boundedLabel{label},
		of:     func(r *stateRecord, in *groupCounter) { in.count(r, field(r)) },
		gauges: []stateGauge{{name: name, help: help, from: machineRows}},
	}
}

// machinesWithin returns a gauge of the machines by window. Containing returns the
// number of windows that contain a time of the machine.
func machinesWithin(name, help string, from input, w windows, containing func(*stateRecord) uint8) grouping {
	return grouping{
		labels: []boundedLabel{w.label()},
		of: func(r *stateRecord, in *groupCounter) {
			if n := containing(r); n > 0 {
				in.countPreset(r, w.shortest(n))
			}
		},
		gauges:     []stateGauge{{name: name, help: help, from: from}},
		cumulative: true,
	}
}

// membershipGauges returns the gauges of machines that belong to a device group or
// carry a tag.
func membershipGauges(name, whose string) []stateGauge {
	return []stateGauge{
		{name: name, from: machineRows, help: "Machines " + whose + ". From /api/machines only."},
		{name: name + "_requiring_attention", from: machineRows, counts: (*stateRecord).requiresAttention,
			help: "Machines " + whose + " with at least one property that requires attention. A machine counts once."},
		{name: name + "_attention", from: machineRows, byProperty: true,
			help: "Machines " + whose + ", by property that requires attention. A machine counts once for each of its properties."},
	}
}

// family returns the metric family of a gauge of the grouping.
func (g *grouping) family(gauge stateGauge) *collector.Family {
	var labels []string
	for _, l := range g.labels {
		labels = append(labels, l.name)
	}
	if gauge.byProperty {
		labels = append(labels, "property")
	}
	return collector.NewFamily(gauge.name, gauge.help, labels...)
}

// groupLimit returns the limit of groups, including those of other and of missing
// values.
func (g *grouping) groupLimit() int {
	switch {
	case g.maxGroups > 0:
		return g.maxGroups
	case len(g.labels) > 1:
		return maxGroups
	}
	return g.labels[0].limit + len(g.labels[0].preset) + 2
}

// admits reports whether a group with these values can be counted: the value of a label
// that has preset values only must be one of them.
func (g *grouping) admits(values []string) bool {
	for i, l := range g.labels {
		if l.limit == 0 && i < len(values) && !slices.Contains(l.preset, values[i]) {
			return false
		}
	}
	return true
}

// droppedLabels counts, by label, the values that exceed a limit. The key "group"
// counts the combinations of values.
type droppedLabels map[string]*labels.Dropped

func newDroppedLabels(m *collector.TenantMetrics, isSecret func(name string) bool) droppedLabels {
	d := make(droppedLabels)
	for _, label := range []string{"property", "group"} {
		d[label] = labels.NewDropped(label, m, isSecret)
	}
	all := Config{RevisionLabel: true, DeviceGroups: true}
	for _, g := range all.groupings() {
		for _, label := range g.labels {
			if label.limit > 0 && d[label.name] == nil {
				d[label.name] = labels.NewDropped(label.name, m, isSecret)
			}
		}
	}
	return d
}

// announce creates the series of every label at 0.
func (d droppedLabels) announce() {
	for _, values := range d {
		values.Announce()
	}
}
