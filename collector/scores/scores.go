// Package scores is the collector of exposure scores and the device secure score:
// scores.
package scores

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/labels"
)

var (
	exposureFamily      = collector.NewFamily("mde_exposure_score", "Exposure score of the organization, 0 (good) to 100.")
	groupExposureFamily = collector.NewFamily("mde_device_group_exposure_score", "Exposure score of the device group, 0 (good) to 100.", "device_group")
	deviceSecureFamily  = collector.NewFamily("mde_device_secure_score", "Microsoft Secure Score for Devices, in points. Higher is better; the API names no maximum.")
)

// Config configures the collector of scores.
type Config struct {
	collector.Schedule `yaml:",inline"`
}

// Defaults implements Config.
func (c *Config) Defaults() {
	*c = Config{collector.Schedule{RefreshInterval: model.Duration(time.Hour)}}
}

// Validate implements Config.
func (c *Config) Validate(collector.Validation) []collector.Mistake {
	c.DefaultMaxAge()
	return nil
}

// Needs implements Config.
func (c *Config) Needs() []client.Need {
	return []client.Need{{client.ExposureScore}, {client.DeviceGroupExposureScore}, {client.DeviceSecureScore}}
}

// New implements Config.
func (c *Config) New(e collector.Env) collector.Collector {
	r := &reader{client: e.Client, dropped: labels.NewDropped("device_group", e.Metrics, e.Client.ContainsSecret)}
	return &collector.Periodic[result]{Env: e, MaxAge: c.Age(), Read: r.read, Show: show, Describe: describe}
}

// result is what one refresh reads. It is stored as JSON.
type result struct {
	// Exposure and DeviceSecure are nil if the service reports that the score does not
	// exist.
	Exposure     *float64 `json:"exposure"`
	DeviceSecure *float64 `json:"device_secure"`
	// DeviceGroups are the exposure scores by device group.
	DeviceGroups map[string]float64 `json:"device_groups"`
}

type reader struct {
	client  *client.Client
	dropped *labels.Dropped
	groups  []string // Exposed by the last refresh.
}

func (r *reader) read(ctx context.Context) (result, error) {
	r.dropped.Announce()
	read := result{DeviceGroups: make(map[string]float64)}
	var err error
	if read.Exposure, err = orNone(r.client.ExposureScore(ctx)); err != nil {
		return result{}, fmt.Errorf("read exposure score: %w", err)
	}
	if read.DeviceSecure, err = orNone(r.client.DeviceSecureScore(ctx)); err != nil {
		return result{}, fmt.Errorf("read device secure score: %w", err)
	}
	groups := labels.NewTable(labels.MaxDeviceGroups, labels.NoDeviceGroup, r.groups, r.dropped)
	for score, err := range r.client.DeviceGroupExposureScores(ctx) {
		switch {
		case client.IsNotFound(err):
		case err != nil:
			return result{}, fmt.Errorf("read exposure scores of device groups: %w", err)
		default:
			// If several groups have the same label value, such as other, the worst
			// score counts.
			name := groups.Names[groups.Number(labels.DeviceGroup(score.DeviceGroup))]
			read.DeviceGroups[name] = max(read.DeviceGroups[name], score.Score)
		}
	}
	r.groups = slices.Sorted(maps.Keys(read.DeviceGroups))
	return read, nil
}

// orNone returns nil if the service itself reports that the score does not exist.
func orNone(score float64, err error) (*float64, error) {
	switch {
	case client.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &score, nil
}

func show(b *collector.BlockBuilder, r result) {
	if r.Exposure != nil {
		b.Add(exposureFamily, *r.Exposure)
	}
	for _, group := range slices.Sorted(maps.Keys(r.DeviceGroups)) {
		b.Add(groupExposureFamily, r.DeviceGroups[group], group)
	}
	if r.DeviceSecure != nil {
		b.Add(deviceSecureFamily, *r.DeviceSecure)
	}
}

func describe(r result) collector.Page {
	text := func(score *float64) string {
		if score == nil {
			return "none"
		}
		return collector.Number(*score)
	}
	return collector.Page{Summary: fmt.Sprintf("exposure score %s, device secure score %s, %s with an exposure score",
		text(r.Exposure), text(r.DeviceSecure), collector.Count(len(r.DeviceGroups), "device group"))}
}
