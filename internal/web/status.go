package web

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
)

// Status is the content of the status page at one moment.
type Status struct {
	// Version is the program's version, as in --version.
	Version string
	Config  ConfigStatus
	Tenants []Tenant
}

// ConfigStatus describes the configuration in force.
type ConfigStatus struct {
	// Source is where the configuration comes from: a file's path, the
	// environment, the demo.
	Source string
	// LoadedAt is when it was loaded.
	LoadedAt time.Time
	// Error is the error of the last reload. Empty if it succeeded, or if there
	// was none.
	Error string
}

// Tenant is one tenant's collectors.
type Tenant struct {
	Name       string
	Collectors []Collector
}

// Collector is one collector of one tenant. If it is disabled, only the Page of
// its Status is set, to the result of Config.Disabled.
type Collector struct {
	Name    string
	Enabled bool
	collector.Status
}

// state is the state of a collector or a tenant, from best to worst.
type state int

const (
	stateOff      state = iota // disabled in the configuration
	stateHealthy               // the last refresh succeeded
	stateWaiting               // no complete refresh so far, and no failure
	stateFailing               // the last refresh failed, older values are served
	stateNoValues              // no values, or only values older than max_age
)

// String returns the state's CSS class. The page also shows it as text.
func (s state) String() string {
	return [...]string{"off", "healthy", "waiting", "failing", "no-values"}[s]
}

// Bad reports whether the state needs an operator's attention.
func (s state) Bad() bool { return s >= stateFailing }

// stateAt returns the state at the given time.
func (c *Collector) stateAt(now time.Time) state {
	stale := c.Page.MaxAge > 0 && now.Sub(c.LastSuccess) > c.Page.MaxAge
	switch {
	case !c.Enabled:
		return stateOff
	case stale && !c.LastSuccess.IsZero():
		return stateNoValues
	case !c.Ready:
		return stateWaiting
	case c.Error != "" && c.LastSuccess.IsZero():
		return stateNoValues
	case c.Error != "":
		return stateFailing
	case c.LastSuccess.IsZero():
		return stateWaiting
	default:
		return stateHealthy
	}
}

// byInterest returns the rows sorted by number, largest first, then failed ones
// first, then by name.
func byInterest(rows []collector.Row) []collector.Row {
	failed := func(r collector.Row) int {
		if r.Error != "" {
			return 0
		}
		return 1
	}
	sorted := slices.Clone(rows)
	slices.SortFunc(sorted, func(a, b collector.Row) int {
		return cmp.Or(
			cmp.Compare(b.Number, a.Number),
			cmp.Compare(failed(a), failed(b)),
			strings.Compare(a.Name, b.Name),
		)
	})
	return sorted
}
