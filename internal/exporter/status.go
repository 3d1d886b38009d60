package exporter

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/version"

	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/config"
	"github.com/mde-exporter/mde_exporter/internal/web"
)

// Config is the configuration in force as YAML, secrets masked.
func (e *Exporter) Config() []byte {
	c, _ := e.inForce()
	return []byte(c.String())
}

// Status is how everything stands, for the front page. It waits for no refresh.
func (e *Exporter) Status() web.Status {
	loadedAt, mistake := e.reloads.last()
	s := web.Status{
		Version: programVersion(),
		Config:  web.ConfigStatus{Source: e.options.Source, LoadedAt: loadedAt, Error: mistake},
	}
	c, tenants := e.inForce()
	for _, tc := range c.Tenants {
		s.Tenants = append(s.Tenants, tenants[tc.Name].status())
	}
	return s
}

// inForce returns the configuration and the tenants in force. Neither is changed
// any more: a reload makes new ones.
func (e *Exporter) inForce() (*config.Config, map[string]*tenant) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.config, e.tenants
}

// programVersion is the version and the beginning of the revision.
func programVersion() string {
	if version.Version == "" {
		return "development build"
	}
	const short = 12
	revision := version.GetRevision()
	return strings.TrimSpace(version.Version + " " + revision[:min(short, len(revision))])
}

func (t *tenant) status() web.Tenant {
	out := web.Tenant{Name: t.config.Name}
	states := web.Collector{Name: "security_states"}
	if t.states != nil {
		states = collectorStatus(t.states.refresher.Status())
		states.MaxAge = t.config.SecurityStates.MaxAge
		summary := t.states.collector.Summary()
		states.Source = summary.Source
		states.Summary = statesSummary(summary, states.MaxAge)
	}
	domains := web.Collector{Name: "watched_domains"}
	if t.domains != nil {
		domains = collectorStatus(t.domains.refresher.Status())
		domains.MaxAge = t.domains.collector.MaxAge()
		domains.Notes = t.domains.notes(domains.Notes)
		out.Domains = t.domains.status()
		domains.Summary = domainsSummary(out.Domains)
	}
	out.Collectors = []web.Collector{states, domains}
	return out
}

func collectorStatus(s collector.Status) web.Collector {
	return web.Collector{
		Name:        s.Collector,
		Enabled:     true,
		Ready:       s.Ready,
		LastRefresh: s.Finished,
		LastSuccess: s.LastSuccess,
		Duration:    s.Duration,
		NextRefresh: s.Next,
		Error:       s.Error,
		Notes:       s.Notes,
	}
}

func (w *watchedDomains) status() []web.Domain {
	var out []web.Domain
	for _, d := range w.collector.Domains() {
		out = append(out, web.Domain{
			Name: d.Domain, Machines: d.Machines, Truncated: d.Truncated, LastSuccess: d.LastSuccess, Error: d.Error,
		})
	}
	return out
}

// statesSummary is empty where nothing was ever read.
func statesSummary(s collector.StatesSummary, maxAge time.Duration) string {
	switch {
	case s.At.IsZero():
		return ""
	case s.Withdrawn:
		return fmt.Sprintf("values withdrawn: older than max_age %s", model.Duration(maxAge))
	default:
		return fmt.Sprintf("%d machines, %d require attention", s.Machines, s.Requiring)
	}
}

func domainsSummary(domains []web.Domain) string {
	contacted := 0
	for _, d := range domains {
		if d.Machines > 0 {
			contacted++
		}
	}
	return fmt.Sprintf("%d domains, %d contacted", len(domains), contacted)
}
