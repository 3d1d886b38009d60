package states

import (
	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/labels"
)

// A grouping is a row of the table of what is counted: labels, and gauges that
// count the machines that share their values.
type grouping struct {
	labels []boundedLabel
	// of counts a machine in the groups it belongs to: one, several as for
	// cumulative windows, or none.
	of     func(*stateRecord, *groupCounter)
	gauges []stateGauge
}

// stateGauge counts those machines of each group for which counts is true; without
// it, all.
type stateGauge struct {
	name, help string
	counts     func(*stateRecord) bool
	// byProperty adds the label property and counts a machine once for each of
	// its properties.
	byProperty bool
	// machinesOnly is true where the preview does not have what counts needs.
	machinesOnly bool
}

// boundedLabel is a label with values from an API. Values past the limit count
// under other.
type boundedLabel struct {
	name  string
	limit int
	// missing stands for an empty value.
	missing string
	// preset values are exposed even at 0, where each label of a grouping has some.
	// They take no place from the limit.
	preset []string
}

// Distinct values of each label that a tenant may have; the rest is other.
const (
	maxProperties    = 100
	maxArchitectures = 50
	maxBuilds        = 1000
	maxRevisions     = 1000
	maxPlatforms     = 100
	maxStates        = 20 // Of health, risk and exposure, whose sets are documented.
)

const (
	machinesGauge  = "mde_machines"
	attentionGauge = "mde_machines_attention"
	requiringGauge = "mde_machines_requiring_attention"
)

// maxGroups bounds the groups of several labels, and maxAttention the numbers of
// machines by group and property, so that a scrape stays small even where an API
// sends every combination. Machines of further groups, and further properties, count
// under other. maxAttention has room for all builds with all properties.
const (
	maxGroups    = 2000
	maxAttention = (maxBuilds + 100) * (maxProperties + 1)
)

// The values that the APIs document; each is exposed even at 0.
var (
	healthStates   = []string{"Active", "Inactive", "ImpairedCommunication", "NoSensorData", "NoSensorDataImpairedCommunication", "Unknown"}
	exposureLevels = []string{"None", "Low", "Medium", "High"}
)

// stateGroupings is the table of what is counted.
func stateGroupings(revisionLabel bool) []grouping {
	builds := []boundedLabel{
		{name: "os_build", limit: maxBuilds, missing: labels.Unknown},
		{name: "architecture", limit: maxArchitectures, missing: labels.Unknown},
		{name: "os_revision", limit: maxRevisions, missing: labels.Unknown},
	}
	if !revisionLabel {
		builds = builds[:2]
	}
	return []grouping{
		{
			labels: builds,
			of:     func(r *stateRecord, in *groupCounter) { in.count(r, r.build, r.architecture, r.revision) },
			gauges: []stateGauge{
				{name: machinesGauge, help: "Machines with a security state, by OS build and architecture."},
				{name: attentionGauge, byProperty: true,
					help: "Machines whose property requires attention. A machine counts once for each of its properties, so a sum over properties is not a number of machines."},
				{name: requiringGauge, counts: (*stateRecord).requiresAttention,
					help: "Machines with at least one property that requires attention. A machine counts once."},
			},
		},
		machinesBy("mde_machines_health", "Machines by sensor health; Inactive has been silent for seven days. From /api/machines only.",
			boundedLabel{"health_status", maxStates, "Unknown", healthStates}, func(r *stateRecord) []byte { return r.machine.HealthStatus }),
		machinesBy("mde_machines_risk", "Machines by Defender's risk score. From /api/machines only.",
			boundedLabel{"risk_score", maxStates, "None", client.RiskScores}, func(r *stateRecord) []byte { return r.machine.RiskScore }),
		machinesBy("mde_machines_exposure", "Machines by exposure level. From /api/machines only.",
			boundedLabel{"exposure_level", maxStates, "None", exposureLevels}, func(r *stateRecord) []byte { return r.machine.ExposureLevel }),
		machinesBy("mde_machines_os_platform", "Machines by operating system. From /api/machines only.",
			boundedLabel{"os_platform", maxPlatforms, labels.Unknown, nil}, func(r *stateRecord) []byte { return r.machine.OSPlatform }),
	}
}

// machinesBy is a gauge of the machines of /api/machines by one of their fields.
func machinesBy(name, help string, label boundedLabel, field func(*stateRecord) []byte) grouping {
	return grouping{
		labels: []boundedLabel{label},
		of:     func(r *stateRecord, in *groupCounter) { in.count(r, field(r)) },
		gauges: []stateGauge{{name: name, help: help, machinesOnly: true}},
	}
}

// family describes the series of a gauge of the grouping.
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

// most is how many groups there may be, other and the missing value included.
func (g *grouping) most() int {
	if len(g.labels) > 1 {
		return maxGroups
	}
	return g.labels[0].limit + len(g.labels[0].preset) + 2
}

// droppedLabels are the values without a place of each label of the states, and of
// groups.
type droppedLabels map[string]*labels.Dropped

func newDroppedLabels(m *collector.TenantMetrics, isSecret func(name string) bool) droppedLabels {
	d := make(droppedLabels)
	for _, label := range []string{"property", "group"} {
		d[label] = labels.NewDropped(label, m, isSecret)
	}
	for _, g := range stateGroupings(true) {
		for _, label := range g.labels {
			if d[label.name] == nil {
				d[label.name] = labels.NewDropped(label.name, m, isSecret)
			}
		}
	}
	return d
}

// announce makes the series of every label before anything is dropped.
func (d droppedLabels) announce() {
	for _, values := range d {
		values.Announce()
	}
}
