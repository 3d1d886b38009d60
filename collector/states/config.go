package states

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/labels"
)

// mostMachines is the largest max_machines that is accepted.
const mostMachines = 100_000_000

// Config configures the collector of machine security states.
type Config struct {
	collector.Schedule `yaml:",inline"`
	// Source is SourceAuto, SourcePreview or SourceMachines.
	Source string `yaml:"source"`
	// RevisionLabel adds the label os_revision to the fleet's gauges.
	RevisionLabel bool `yaml:"revision_label"`
	// DeviceGroups counts the machines of each device group.
	DeviceGroups bool `yaml:"device_groups"`
	// Tags are the machine tags to count, compared case-insensitively. Validate removes
	// duplicates.
	Tags []string `yaml:"tags,omitempty"`
	// MaxMachines is the limit of distinct machines. A refresh that reads more fails.
	MaxMachines int `yaml:"max_machines"`
}

// Defaults implements Config.
func (c *Config) Defaults() {
	*c = Config{
		Schedule:     collector.Schedule{Enabled: true, RefreshInterval: model.Duration(15 * time.Minute)},
		Source:       SourceAuto,
		DeviceGroups: true,
		MaxMachines:  defaultMaxMachines,
	}
}

// Validate implements Config.
func (c *Config) Validate(collector.Validation) (mistakes []collector.Mistake) {
	if sources := []string{SourceAuto, SourcePreview, SourceMachines}; !slices.Contains(sources, c.Source) {
		mistakes = append(mistakes, collector.Mistake{Key: "source", Message: "is not one of " + strings.Join(sources, ", ")})
	}
	if c.MaxMachines < 1 || c.MaxMachines > mostMachines {
		mistakes = append(mistakes, collector.Mistake{Key: "max_machines", Message: fmt.Sprintf("%d is not between 1 and %d", c.MaxMachines, mostMachines)})
	}
	tags, more := validTags(c.Tags)
	c.Tags = tags
	c.DefaultMaxAge()
	return append(mistakes, more...)
}

// validTags returns the trimmed tags without duplicates; of tags that differ in case
// only, the first.
func validTags(tags []string) (valid []string, mistakes []collector.Mistake) {
	if len(tags) > maxTags {
		return nil, []collector.Mistake{{Key: "tags", Message: fmt.Sprintf("%d tags exceed the limit of %d", len(tags), maxTags)}}
	}
	for i, tag := range tags {
		tag = strings.TrimSpace(tag)
		switch {
		case tag == "":
			mistakes = append(mistakes, collector.Mistake{Key: fmt.Sprintf("tags[%d]", i), Message: "is empty"})
		case labels.Clean([]byte(tag)) != tag:
			mistakes = append(mistakes, collector.Mistake{Key: fmt.Sprintf("tags[%d]", i),
				Message: fmt.Sprintf("is not a valid label value: longer than %d bytes or with an unprintable character", labels.MaxBytes)})
		case !slices.ContainsFunc(valid, func(other string) bool { return strings.EqualFold(other, tag) }):
			valid = append(valid, tag)
		}
	}
	return valid, mistakes
}

// Needs implements Config.
func (c *Config) Needs() []client.Need {
	const preview = client.MachineSecurityStates
	switch c.Source {
	case SourcePreview:
		return []client.Need{{preview}}
	case SourceMachines:
		return []client.Need{{client.Machines}, {client.DeviceAVInfo}}
	default:
		return []client.Need{{preview, client.Machines}, {preview, client.DeviceAVInfo}}
	}
}

// New implements Config.
func (c *Config) New(e collector.Env) collector.Collector { return New(*c, e, e.Client) }
