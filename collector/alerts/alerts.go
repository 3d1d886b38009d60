// Package alerts is the collector of unresolved alerts: alerts.
package alerts

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
	alertsFamily     = collector.NewFamily("mde_unresolved_alerts", "Alerts that are not resolved, by severity and status.", "severity", "status")
	unassignedFamily = collector.NewFamily("mde_unresolved_alerts_unassigned", "Unresolved alerts without an owner.", "severity")
	oldestFamily     = collector.NewFamily("mde_unresolved_alerts_oldest_timestamp_seconds", "Creation time of the oldest unresolved alert.", "severity")
	waitingFamily    = collector.NewFamily("mde_unresolved_alerts_unassigned_oldest_timestamp_seconds", "Creation time of the oldest unresolved alert without an owner.", "severity")
	sourceFamily     = collector.NewFamily("mde_unresolved_alerts_detection_source", "Unresolved alerts by detection source.", "detection_source")
)

// The documented values. Every pair of a documented severity and an open status is
// exposed, even at 0.
var (
	severities   = []string{"UnSpecified", "Informational", "Low", "Medium", "High"}
	openStatuses = []string{"New", "InProgress"}
	statuses     = slices.Concat(openStatuses, []string{noStatus})
)

const (
	noSeverity = "UnSpecified" // Severity of an alert without one.
	noStatus   = "Unknown"     // Status of an alert without one.
	maxOthers  = 20            // Limit of undocumented severities, and of undocumented statuses.
	maxSources = 50
)

// Config configures the collector of unresolved alerts.
type Config struct {
	collector.Schedule `yaml:",inline"`
}

// Defaults implements Config.
func (c *Config) Defaults() {
	*c = Config{collector.Schedule{RefreshInterval: model.Duration(5 * time.Minute)}}
}

// Validate implements Config.
func (c *Config) Validate(collector.Validation) []collector.Mistake {
	c.DefaultMaxAge()
	return nil
}

// Needs implements Config.
func (c *Config) Needs() []client.Need { return []client.Need{{client.Alerts}} }

// New implements Config.
func (c *Config) New(e collector.Env) collector.Collector {
	dropped := func(label string) *labels.Dropped {
		return labels.NewDropped(label, e.Metrics, e.Client.ContainsSecret)
	}
	r := &reader{client: e.Client, severity: dropped("severity"), status: dropped("status"), source: dropped("detection_source")}
	return &collector.Periodic[result]{Env: e, MaxAge: c.Age(), Read: r.read, Show: show, Describe: describe}
}

// result is what one refresh counts. It is stored as JSON.
type result struct {
	// Alerts counts the alerts by severity and status.
	Alerts map[string]map[string]int `json:"alerts"`
	// Unassigned counts the alerts without an owner by severity.
	Unassigned map[string]int `json:"unassigned"`
	// Oldest is the creation time of the oldest alert by severity. Severities whose
	// alerts have no creation time are missing.
	Oldest map[string]time.Time `json:"oldest"`
	// OldestUnassigned is Oldest for alerts without an owner.
	OldestUnassigned map[string]time.Time `json:"oldest_unassigned"`
	// Sources counts the alerts by detection source.
	Sources map[string]int `json:"sources"`
}

type reader struct {
	client                   *client.Client
	severity, status, source *labels.Dropped
	last                     result
}

func (r *reader) read(ctx context.Context) (result, error) {
	for _, label := range []*labels.Dropped{r.severity, r.status, r.source} {
		label.Announce()
	}
	counted, err := r.count(ctx)
	if client.IsNotFound(err) {
		// The service reports that there are no alerts. A temporary failure looks the
		// same.
		counted, err = r.count(ctx)
	}
	if err != nil && !client.IsNotFound(err) {
		return result{}, fmt.Errorf("read alerts: %w", err)
	}
	r.last = counted
	return counted, nil
}

// count counts the alerts. The result is incomplete if it returns an error.
func (r *reader) count(ctx context.Context) (result, error) {
	counted := result{
		Alerts: make(map[string]map[string]int), Unassigned: make(map[string]int),
		Oldest: make(map[string]time.Time), OldestUnassigned: make(map[string]time.Time), Sources: make(map[string]int),
	}
	for _, severity := range severities {
		counted.Alerts[severity] = make(map[string]int)
		counted.Unassigned[severity] = 0
		for _, status := range openStatuses {
			counted.Alerts[severity][status] = 0
		}
	}
	var used []string
	for _, byStatus := range r.last.Alerts {
		used = slices.AppendSeq(used, maps.Keys(byStatus))
	}
	bySeverity := newTable(noSeverity, severities, slices.Collect(maps.Keys(r.last.Alerts)), r.severity)
	byStatus := newTable(noStatus, statuses, used, r.status)
	sources := labels.NewTable(maxSources, labels.Unknown, slices.Collect(maps.Keys(r.last.Sources)), r.source)
	seen := make(map[client.AlertID]struct{})
	for alert, err := range r.client.Alerts(ctx) {
		if err != nil {
			return counted, err
		}
		if alert.ID != (client.AlertID{}) {
			if _, again := seen[alert.ID]; again {
				continue
			}
			seen[alert.ID] = struct{}{}
		}
		severity := bySeverity.Names[bySeverity.Number(alert.Severity)]
		if counted.Alerts[severity] == nil {
			counted.Alerts[severity] = make(map[string]int)
			counted.Unassigned[severity] = 0
		}
		counted.Alerts[severity][byStatus.Names[byStatus.Number(alert.Status)]]++
		keepOldest(counted.Oldest, severity, alert.CreatedAt)
		if len(alert.AssignedTo) == 0 {
			counted.Unassigned[severity]++
			keepOldest(counted.OldestUnassigned, severity, alert.CreatedAt)
		}
		counted.Sources[sources.Names[sources.Number(alert.DetectionSource)]]++
	}
	return counted, nil
}

func keepOldest(oldest map[string]time.Time, severity string, created time.Time) {
	if before, known := oldest[severity]; !created.IsZero() && (!known || created.Before(before)) {
		oldest[severity] = created
	}
}

// newTable returns a table of a field with documented values, which are compared
// case-insensitively. Missing is the documented value for an empty field. Used values
// keep their places within the limit.
func newTable(missing string, documented, used []string, dropped *labels.Dropped) *labels.Table {
	table := labels.NewTable(maxOthers+len(documented)-1, missing, slices.Concat(documented, used), dropped)
	table.Documented = documented
	return table
}

func show(b *collector.BlockBuilder, r result) {
	for _, severity := range slices.Sorted(maps.Keys(r.Alerts)) {
		for _, status := range slices.Sorted(maps.Keys(r.Alerts[severity])) {
			b.Add(alertsFamily, float64(r.Alerts[severity][status]), severity, status)
		}
	}
	for _, severity := range slices.Sorted(maps.Keys(r.Unassigned)) {
		b.Add(unassignedFamily, float64(r.Unassigned[severity]), severity)
	}
	for _, severity := range slices.Sorted(maps.Keys(r.Oldest)) {
		b.Add(oldestFamily, collector.UnixSeconds(r.Oldest[severity]), severity)
	}
	for _, severity := range slices.Sorted(maps.Keys(r.OldestUnassigned)) {
		b.Add(waitingFamily, collector.UnixSeconds(r.OldestUnassigned[severity]), severity)
	}
	for _, source := range slices.Sorted(maps.Keys(r.Sources)) {
		b.Add(sourceFamily, float64(r.Sources[source]), source)
	}
}

func describe(r result) collector.Page {
	alerts, unassigned := 0, 0
	for _, alertsOf := range r.Alerts {
		for _, n := range alertsOf {
			alerts += n
		}
	}
	for _, n := range r.Unassigned {
		unassigned += n
	}
	return collector.Page{Summary: fmt.Sprintf("%s, %s without an owner", collector.Count(alerts, "unresolved alert"), collector.Number(unassigned))}
}
