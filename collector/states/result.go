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

// statesResult is the result of one refresh. It is sorted, and stored as JSON.
type statesResult struct {
	// At is the start of the refresh, wall clock time.
	At            time.Time `json:"at"`
	Source        string    `json:"source"`
	RevisionLabel bool      `json:"revision_label,omitempty"`
	// Incomplete is true if the antivirus states are missing.
	Incomplete bool `json:"incomplete,omitempty"`
	// Properties are those that at least one machine has, sorted.
	Properties []string `json:"properties"`
	// Gauges holds the counts by gauge name.
	Gauges map[string][]stateGroup `json:"gauges"`
}

// stateGroup holds the counts of the machines with the same label values.
type stateGroup struct {
	Values []string `json:"values"`
	// Counts has one element, or one for each of Properties if the gauge counts by
	// property.
	Counts []int `json:"counts"`
}

// UnmarshalJSON also accepts the format of versions that stored no gauges, so that an
// upgrade keeps the last values.
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

// sum returns the sum of a gauge. It returns 0 for a nil result.
func (r *statesResult) sum(gauge string) (n int) {
	if r != nil {
		for _, g := range r.Gauges[gauge] {
			n += g.Counts[0]
		}
	}
	return n
}

// summary returns the numbers of machines and of those that require attention.
func (r *statesResult) summary() string {
	requiring, verb := r.sum(requiringGauge), "require"
	if requiring == 1 {
		verb = "requires"
	}
	return fmt.Sprintf("%s, %s %s attention", collector.Count(r.sum(machinesGauge), "machine"), collector.Number(requiring), verb)
}

// measures returns the share of machines that require attention and the most frequent
// property. For a nil result both are empty.
func (r *statesResult) measures() []collector.Measure {
	share, top := collector.Measure{Title: "Require attention"}, collector.Measure{Title: "Most frequent problem"}
	if r == nil {
		return []collector.Measure{share, top}
	}
	machines, requiring := r.sum(machinesGauge), r.sum(requiringGauge)
	share.Number = float64(requiring) / float64(max(machines, 1))
	switch {
	case machines == 0:
		share.Text = "no machines"
	case requiring > 0 && share.Number < 0.001:
		share.Text = "under 0.1%"
	default:
		share.Text = fmt.Sprintf("%.1f%%", 100*share.Number)
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

// check returns an error if a stored result cannot come from a refresh with these
// groupings.
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
			if len(groups) > g.groupLimit() {
				return errors.New("too many groups or label values")
			}
			for _, group := range groups {
				if len(group.Values) != len(g.labels) || len(group.Counts) != width || slices.ContainsFunc(group.Counts, func(n int) bool { return n < 0 }) {
					return errors.New("a group has the wrong number of label values or counts")
				}
				values = append(values, group.Values...)
			}
		}
	}
	if len(r.Properties) > maxProperties+1 || cells > maxAttention {
		return errors.New("too many properties")
	}
	if slices.ContainsFunc(values, func(value string) bool { return len(value) > labels.MaxBytes }) {
		return errors.New("a label value is too long")
	}
	return nil
}

// keep drops the groups that these groupings do not admit, such as those of a tag that
// is no longer configured.
func (r *statesResult) keep(groupings []grouping) {
	for _, g := range groupings {
		for _, gauge := range g.gauges {
			r.Gauges[gauge.name] = slices.DeleteFunc(r.Gauges[gauge.name], func(group stateGroup) bool { return !g.admits(group.Values) })
		}
	}
}

// counts returns the series of the counts, which expire at the given time.
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

// sourceInfo returns the series that is kept when the counts expire.
func (r *statesResult) sourceInfo(tenant string) (*collector.Block, error) {
	b := collector.NewBlock(tenant, time.Time{})
	b.Add(sourceFamily, 1, r.Source)
	return b.Build()
}
