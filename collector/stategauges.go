package collector

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
	riskScores     = []string{"None", "Informational", "Low", "Medium", "High"}
	exposureLevels = []string{"None", "Low", "Medium", "High"}
)

// stateGroupings is the table of what is counted.
func stateGroupings(revisionLabel bool) []grouping {
	builds := []boundedLabel{
		{name: "os_build", limit: maxBuilds, missing: unknownValue},
		{name: "architecture", limit: maxArchitectures, missing: unknownValue},
		{name: "os_revision", limit: maxRevisions, missing: unknownValue},
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
			boundedLabel{"risk_score", maxStates, "None", riskScores}, func(r *stateRecord) []byte { return r.machine.RiskScore }),
		machinesBy("mde_machines_exposure", "Machines by exposure level. From /api/machines only.",
			boundedLabel{"exposure_level", maxStates, "None", exposureLevels}, func(r *stateRecord) []byte { return r.machine.ExposureLevel }),
		machinesBy("mde_machines_os_platform", "Machines by operating system. From /api/machines only.",
			boundedLabel{"os_platform", maxPlatforms, unknownValue, nil}, func(r *stateRecord) []byte { return r.machine.OSPlatform }),
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
func (g *grouping) family(gauge stateGauge) *family {
	var labels []string
	for _, l := range g.labels {
		labels = append(labels, l.name)
	}
	if gauge.byProperty {
		labels = append(labels, "property")
	}
	return newFamily(gauge.name, gauge.help, labels...)
}

// most is how many groups there may be, other and the missing value included.
func (g *grouping) most() int {
	if len(g.labels) > 1 {
		return maxGroups
	}
	return g.labels[0].limit + len(g.labels[0].preset) + 2
}
