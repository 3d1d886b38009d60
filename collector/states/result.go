package states

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/labels"
)

var (
	incompleteFamily = collector.NewFamily("mde_security_states_incomplete",
		"1 where a part of the security states could not be read, so that its properties are missing from the counts.", "part")
	sourceFamily = collector.NewFamily("mde_security_states_source_info",
		"1: the API the security states come from.", "source")
)

// statesResult is what one refresh counted: plain, sorted, and stored as it is.
type statesResult struct {
	// At is when reading began, by the wall clock.
	At            time.Time `json:"at"`
	Source        string    `json:"source"`
	RevisionLabel bool      `json:"revision_label,omitempty"`
	// Incomplete is true where the antivirus states are missing.
	Incomplete bool `json:"incomplete,omitempty"`
	// Properties that a machine of the tenant has, sorted.
	Properties []string `json:"properties"`
	// Gauges are the counts of each gauge by its name.
	Gauges map[string][]stateGroup `json:"gauges"`
}

// stateGroup is the machines that share label values.
type stateGroup struct {
	Values []string `json:"values"`
	// Counts is one number, or, of a gauge by property, one for each of Properties.
	Counts []int `json:"counts"`
}

// UnmarshalJSON also reads the form in which results were stored before they had
// gauges, so that an upgrade keeps the last values.
func (r *statesResult) UnmarshalJSON(text []byte) error {
	type result statesResult
	stored := struct {
		*result
		Groups []struct {
			Build, Architecture, Revision string
			Machines, Requiring           int
			Attention                     []int
		}
		Health, Risk, Exposure, Platforms map[string]int
	}{result: (*result)(r)}
	if err := json.Unmarshal(text, &stored); err != nil || r.Gauges != nil {
		return err
	}
	r.Gauges = make(map[string][]stateGroup)
	for _, g := range stored.Groups {
		values := []string{g.Build, g.Architecture, g.Revision}
		if !r.RevisionLabel {
			values = values[:2]
		}
		for gauge, counts := range map[string][]int{machinesGauge: {g.Machines}, requiringGauge: {g.Requiring}, attentionGauge: g.Attention} {
			r.Gauges[gauge] = append(r.Gauges[gauge], stateGroup{values, counts})
		}
	}
	for gauge, counts := range map[string]map[string]int{
		"mde_machines_health": stored.Health, "mde_machines_risk": stored.Risk, "mde_machines_exposure": stored.Exposure, "mde_machines_os_platform": stored.Platforms,
	} {
		for _, value := range slices.Sorted(maps.Keys(counts)) {
			r.Gauges[gauge] = append(r.Gauges[gauge], stateGroup{[]string{value}, []int{counts[value]}})
		}
	}
	return nil
}

// sum adds up the counts of a gauge. No result has none.
func (r *statesResult) sum(gauge string) (n int) {
	if r != nil {
		for _, g := range r.Gauges[gauge] {
			n += g.Counts[0]
		}
	}
	return n
}

// measures are the share of the machines that require attention, and the property
// of most of them. No result knows neither.
func (r *statesResult) measures() []collector.Measure {
	share, top := collector.Measure{Title: "Requires attention"}, collector.Measure{Title: "Top property"}
	if r == nil {
		return []collector.Measure{share, top}
	}
	machines, requiring := r.sum(machinesGauge), r.sum(requiringGauge)
	share.Number = float64(requiring) / float64(max(machines, 1))
	switch {
	case machines == 0:
		share.Text = "no machines"
	case requiring > 0 && share.Number < 0.001:
		share.Text = "under 0.1 %"
	default:
		share.Text = fmt.Sprintf("%.1f %%", 100*share.Number)
	}
	sums := make([]int, len(r.Properties))
	for _, g := range r.Gauges[attentionGauge] {
		for i, n := range g.Counts {
			sums[i] += n
		}
	}
	if !r.Incomplete {
		top.Text = "none"
	}
	for i, n := range sums {
		if float64(n) > top.Number {
			top.Number, top.Text = float64(n), r.Properties[i]+": "+collector.Number(n)
		}
	}
	if r.Incomplete {
		share.Text += " or more"
	}
	return []collector.Measure{share, top}
}

// check returns why a stored result is not one that a refresh can have made that
// counted these groupings.
func (r *statesResult) check(groupings []grouping) error {
	if err := collector.CheckTime(r.At); err != nil {
		return err
	}
	values, cells := slices.Clone(r.Properties), 0
	for _, g := range groupings {
		for _, gauge := range g.gauges {
			groups, width := r.Gauges[gauge.name], 1
			if gauge.byProperty {
				width = len(r.Properties)
				cells += width * len(groups)
			}
			if len(groups) > g.most() {
				return errors.New("more groups or values of a label than there may be")
			}
			for _, group := range groups {
				if len(group.Values) != len(g.labels) || len(group.Counts) != width || slices.ContainsFunc(group.Counts, func(n int) bool { return n < 0 }) {
					return errors.New("a group does not hold a value for each label and a number for each property")
				}
				values = append(values, group.Values...)
			}
		}
	}
	if len(r.Properties) > maxProperties+1 || cells > maxAttention+(labels.MaxDeviceGroups+maxTags+4)*(maxProperties+1) {
		return errors.New("more properties than there may be")
	}
	if slices.ContainsFunc(values, func(value string) bool { return len(value) > labels.MaxBytes }) {
		return errors.New("a label value is longer than it may be")
	}
	return nil
}

// keep drops the groups that these groupings do not admit, such as those of a tag that
// is not configured any more.
func (r *statesResult) keep(groupings []grouping) {
	for _, g := range groupings {
		for _, gauge := range g.gauges {
			r.Gauges[gauge.name] = slices.DeleteFunc(r.Gauges[gauge.name], func(group stateGroup) bool { return !g.admits(group.Values) })
		}
	}
}

// counts builds the families of the fleet.
func (r *statesResult) counts(groupings []grouping, tenant string, expires time.Time) (*collector.Block, error) {
	b := collector.NewBlock(tenant, expires)
	for _, g := range groupings {
		for _, gauge := range g.gauges {
			family := g.family(gauge)
			for _, group := range r.Gauges[gauge.name] {
				if !gauge.byProperty {
					b.Add(family, float64(group.Counts[0]), group.Values...)
					continue
				}
				values := append(slices.Clone(group.Values), "")
				for i, property := range r.Properties {
					values[len(values)-1] = property
					b.Add(family, float64(group.Counts[i]), values...)
				}
			}
		}
	}
	b.Add(incompleteFamily, collector.BoolValue(r.Incomplete), "antivirus")
	return b.Build()
}

// sourceInfo builds the family that stays when the counts are withdrawn.
func (r *statesResult) sourceInfo(tenant string) (*collector.Block, error) {
	b := collector.NewBlock(tenant, time.Time{})
	b.Add(sourceFamily, 1, r.Source)
	return b.Build()
}
