package collector

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"
)

var (
	machinesFamily = newFamily("mde_machines",
		"Machines with a security state, by OS build and architecture.",
		"os_build", "architecture")
	attentionFamily = newFamily("mde_machines_attention",
		"Machines whose property requires attention. A machine counts once for each of its properties, so a sum over properties is not a number of machines.",
		"os_build", "architecture", "property")
	requiringFamily = newFamily("mde_machines_requiring_attention",
		"Machines with at least one property that requires attention. A machine counts once.",
		"os_build", "architecture")

	machinesRevisionFamily  = withRevision(machinesFamily)
	attentionRevisionFamily = withRevision(attentionFamily)
	requiringRevisionFamily = withRevision(requiringFamily)

	healthFamily = newFamily("mde_machines_health",
		"Machines by sensor health; Inactive has been silent for seven days. From /api/machines only.", "health_status")
	riskFamily = newFamily("mde_machines_risk",
		"Machines by Defender's risk score. From /api/machines only.", "risk_score")
	exposureFamily = newFamily("mde_machines_exposure",
		"Machines by exposure level. From /api/machines only.", "exposure_level")
	platformFamily = newFamily("mde_machines_os_platform",
		"Machines by operating system. From /api/machines only.", "os_platform")

	incompleteFamily = newFamily("mde_security_states_incomplete",
		"1 where a part of the security states could not be read, so that its properties are missing from the counts.", "part")
	sourceFamily = newFamily("mde_security_states_source_info",
		"1: the API the security states come from.", "source")
)

func withRevision(f *family) *family {
	return newFamily(f.name, f.help, append(slices.Clone(f.labels), "os_revision")...)
}

// The values that the APIs document; each is exposed even at 0.
var (
	healthStates   = []string{"Active", "Inactive", "ImpairedCommunication", "NoSensorData", "NoSensorDataImpairedCommunication", "Unknown"}
	riskScores     = []string{"None", "Informational", "Low", "Medium", "High"}
	exposureLevels = []string{"None", "Low", "Medium", "High"}
)

// statesResult is what one refresh counted: plain, sorted, and stored as it is.
type statesResult struct {
	// At is when reading began, by the wall clock.
	At            time.Time `json:"at"`
	Source        string    `json:"source"`
	RevisionLabel bool      `json:"revision_label,omitempty"`
	// Incomplete tells that the antivirus states are missing.
	Incomplete bool `json:"incomplete,omitempty"`
	// Properties that a machine of the tenant has, in the order of Attention.
	Properties []string       `json:"properties"`
	Groups     []stateGroup   `json:"groups"`
	Health     map[string]int `json:"health,omitempty"`
	Risk       map[string]int `json:"risk,omitempty"`
	Exposure   map[string]int `json:"exposure,omitempty"`
	Platforms  map[string]int `json:"platforms,omitempty"`
}

// stateGroup is the machines of one build and architecture.
type stateGroup struct {
	Build        string `json:"build"`
	Architecture string `json:"architecture"`
	Revision     string `json:"revision,omitempty"`
	Machines     int    `json:"machines"`
	Requiring    int    `json:"requiring"`
	Attention    []int  `json:"attention"`
}

func (g stateGroup) compare(other stateGroup) int {
	return cmp.Or(
		strings.Compare(g.Build, other.Build),
		strings.Compare(g.Architecture, other.Architecture),
		strings.Compare(g.Revision, other.Revision))
}

// machines is the size of the fleet; no result means none is known.
func (r *statesResult) machines() int {
	if r == nil {
		return 0
	}
	n := 0
	for _, g := range r.Groups {
		n += g.Machines
	}
	return n
}

// summary is the result as a page shows it.
func (r *statesResult) summary() StatesSummary {
	s := StatesSummary{At: r.At, Source: r.Source}
	for _, g := range r.Groups {
		s.Machines += g.Machines
		s.Requiring += g.Requiring
	}
	return s
}

// check returns why a stored result is not one that a refresh can have made.
func (r *statesResult) check() error {
	if err := checkTime(r.At); err != nil {
		return err
	}
	if len(r.Properties) > maxProperties+1 || len(r.Groups) > maxGroups || len(r.Properties)*len(r.Groups) > maxAttention {
		return errors.New("more properties or groups than there may be")
	}
	values := slices.Clone(r.Properties)
	for _, g := range r.Groups {
		if len(g.Attention) != len(r.Properties) || g.Machines < 0 || g.Requiring < 0 || slices.ContainsFunc(g.Attention, func(n int) bool { return n < 0 }) {
			return errors.New("a group does not hold a number for each property")
		}
		values = append(values, g.Build, g.Architecture, g.Revision)
	}
	for _, t := range []struct {
		counts map[string]int
		most   int
	}{{r.Health, maxStates + len(healthStates)}, {r.Risk, maxStates + len(riskScores)}, {r.Exposure, maxStates + len(exposureLevels)}, {r.Platforms, maxPlatforms}} {
		if len(t.counts) > t.most+2 { // With other and the missing one.
			return errors.New("more values of a label than there may be")
		}
		values = slices.AppendSeq(values, maps.Keys(t.counts))
	}
	if slices.ContainsFunc(values, func(value string) bool { return len(value) > maxLabelBytes }) {
		return errors.New("a label value is longer than it may be")
	}
	return nil
}

// counts builds the families of the fleet.
func (r *statesResult) counts(tenant string, expires time.Time) (*Block, error) {
	b := newBlock(tenant, expires)
	machines, attention, requiring := machinesFamily, attentionFamily, requiringFamily
	labels := func(g stateGroup) []string { return []string{g.Build, g.Architecture} }
	property := func(g stateGroup, name string) []string { return []string{g.Build, g.Architecture, name} }
	if r.RevisionLabel {
		machines, attention, requiring = machinesRevisionFamily, attentionRevisionFamily, requiringRevisionFamily
		labels = func(g stateGroup) []string { return []string{g.Build, g.Architecture, g.Revision} }
		property = func(g stateGroup, name string) []string { return []string{g.Build, g.Architecture, name, g.Revision} }
	}
	for _, g := range r.Groups {
		b.add(machines, float64(g.Machines), labels(g)...)
	}
	for _, g := range r.Groups {
		for i, name := range r.Properties {
			b.add(attention, float64(g.Attention[i]), property(g, name)...)
		}
	}
	for _, g := range r.Groups {
		b.add(requiring, float64(g.Requiring), labels(g)...)
	}
	for _, t := range []struct {
		family *family
		counts map[string]int
	}{{healthFamily, r.Health}, {riskFamily, r.Risk}, {exposureFamily, r.Exposure}, {platformFamily, r.Platforms}} {
		for _, value := range slices.Sorted(maps.Keys(t.counts)) {
			b.add(t.family, float64(t.counts[value]), value)
		}
	}
	b.add(incompleteFamily, boolValue(r.Incomplete), "antivirus")
	return b.build()
}

// sourceInfo builds the family that stays when the counts are withdrawn.
func (r *statesResult) sourceInfo(tenant string) (*Block, error) {
	b := newBlock(tenant, time.Time{})
	b.add(sourceFamily, 1, r.Source)
	return b.build()
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
