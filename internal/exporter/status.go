package exporter

import (
	"strings"

	"github.com/prometheus/common/version"

	"github.com/mde-exporter/mde_exporter/config"
	"github.com/mde-exporter/mde_exporter/internal/web"
)

// Config returns the configuration in force as YAML, secrets masked.
func (e *Exporter) Config() []byte {
	c, _ := e.inForce()
	return []byte(c.String())
}

// Status returns the state of all tenants and collectors, for the status page. It
// waits for no refresh.
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

// inForce returns the configuration and the tenants in force. Both are immutable:
// a reload replaces them.
func (e *Exporter) inForce() (*config.Config, map[string]*tenant) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.config, e.tenants
}

// programVersion returns the version, which main sets, and the abbreviated
// revision.
func programVersion() string {
	const short = 12
	revision := version.GetRevision()
	return strings.TrimSpace(version.Version + " " + revision[:min(short, len(revision))])
}

func (t *tenant) status() web.Tenant {
	out := web.Tenant{Name: t.config.Name}
	for name, section := range t.config.All() {
		c := web.Collector{Name: name}
		if r := t.runs[len(out.Collectors)]; r != nil {
			c.Enabled, c.Status = true, r.refresher.Status()
		} else {
			c.Page = section.Disabled()
		}
		out.Collectors = append(out.Collectors, c)
	}
	return out
}
