package web

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
)

// Status is what the front page shows: plain data, taken at one moment.
type Status struct {
	// Version is the program's version, in the words of --version.
	Version string
	Config  ConfigStatus
	Tenants []Tenant
}

// ConfigStatus describes the configuration in force.
type ConfigStatus struct {
	// Source says where it came from: a file's path, the environment, the demo.
	Source string
	// LoadedAt is when it came into force.
	LoadedAt time.Time
	// Error is why the latest reload was refused. Empty where there was none
	// or it succeeded.
	Error string
}

// Tenant is one tenant's collectors.
type Tenant struct {
	Name       string
	Collectors []Collector
}

// Collector is one collector of one tenant. Of its Status only the Page is set, to
// that of Config.Disabled, where it is not enabled.
type Collector struct {
	Name    string
	Enabled bool
	collector.Status
}

// state is how a collector or a tenant stands, from the best to the worst.
type state int

const (
	stateOff     state = iota // switched off by configuration
	stateWell                 // the last refresh succeeded
	stateWaiting              // not everything was read so far, and nothing failed
	stateFailing              // the last refresh failed, older values stand
	stateEmpty                // failing, and there are no values, or none young enough
)

// String returns the word for the page, which is also the state's CSS class.
func (s state) String() string {
	return [...]string{"off", "well", "waiting", "failing", "no-values"}[s]
}

// Bad reports whether somebody should look.
func (s state) Bad() bool { return s >= stateFailing }

// stateAt returns how the collector stands at a time.
func (c *Collector) stateAt(now time.Time) state {
	aged := c.Page.MaxAge > 0 && now.Sub(c.LastSuccess) > c.Page.MaxAge
	switch {
	case !c.Enabled:
		return stateOff
	case aged && !c.LastSuccess.IsZero():
		return stateEmpty
	case !c.Ready:
		return stateWaiting
	case c.Error != "" && c.LastSuccess.IsZero():
		return stateEmpty
	case c.Error != "":
		return stateFailing
	case c.LastSuccess.IsZero():
		return stateWaiting
	default:
		return stateWell
	}
}

// byInterest orders rows as a reader wants them: the largest numbers first, then
// those whose last attempt failed, then by name.
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
