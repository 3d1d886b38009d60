package exporter

import (
	"fmt"
	"slices"
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
		domains.Notes = t.domains.notes(domains.Notes)
		out.Domains = t.domains.status()
		domains.Summary = domainsSummary(out.Domains)
		if !slices.ContainsFunc(out.Domains, web.Domain.Known) {
			domains.MaxAge = t.domains.collector.MaxAge() // One old domain does not withdraw the others.
		}
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
			Name: d.Domain, Machines: d.Machines, Truncated: d.Truncated, LastSuccess: d.LastSuccess,
			Withdrawn: !d.LastSuccess.IsZero() && !d.Current, Invalid: d.Invalid, Error: d.Error,
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

// domainsSummary counts as contacted or not only what is known now.
func domainsSummary(domains []web.Domain) string {
	known, contacted, invalid := 0, 0, 0
	for _, d := range domains {
		switch {
		case d.Known():
			if known++; d.Machines > 0 {
				contacted++
			}
		case d.Invalid:
			invalid++
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d domains", len(domains))
	if known > 0 || len(domains) == 0 {
		fmt.Fprintf(&b, ", %d contacted", contacted)
	}
	if unknown := len(domains) - known - invalid; unknown > 0 {
		fmt.Fprintf(&b, ", %d unknown", unknown)
	}
	if invalid > 0 {
		fmt.Fprintf(&b, ", %d invalid", invalid)
	}
	return b.String()
}
