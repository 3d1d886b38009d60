package collector

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
)

// Config is a collector's section of a tenant's settings: a struct of plain values
// with yaml tags that embeds a Schedule inline. It has no map, pointer or
// interface, so that tenants share nothing and reflect.DeepEqual compares two.
type Config interface {
	// Common returns the embedded Schedule.
	Common() *Schedule
	// Defaults sets the values of keys that are missing from the file.
	Defaults()
	// Inherit is called on a copy of the global section before the tenant's own keys are
	// decoded over it. The argument is the global section after Validate, of the same
	// type.
	Inherit(global Config)
	// Validate returns the mistakes of a section whose Schedule is valid, and sets
	// defaults and normalizes values. It must not change values that it shares with
	// another section.
	Validate(Validation) []Mistake
	// Needs returns the APIs that the collector requires.
	Needs() []client.Need
	// New returns a collector. It must not have side effects before Start, because a
	// rejected reload drops it.
	New(Env) Collector
	// Disabled returns the page of a collector that is not enabled.
	Disabled() Page
}

// Schedule contains the configuration keys that all collectors have.
type Schedule struct {
	Enabled bool `yaml:"enabled"`
	// RefreshInterval is the time between the end of a refresh and the start of the next.
	RefreshInterval model.Duration `yaml:"refresh_interval"`
	// MaxAge is the age at which values are withdrawn. Zero means the collector's
	// default, which Validate may set.
	MaxAge model.Duration `yaml:"max_age,omitempty"`
	// Continuous starts a refresh as soon as the previous one has ended. The collector
	// then spreads its calls over the interval itself. It is set by Defaults.
	Continuous bool `yaml:"-"`
}

// Common implements Config.
func (s *Schedule) Common() *Schedule { return s }

// Inherit implements Config for collectors whose keys a tenant overrides individually.
func (*Schedule) Inherit(Config) {}

// Disabled implements Config for collectors without a table.
func (*Schedule) Disabled() Page { return Page{} }

// DefaultMaxAge sets a MaxAge that is not configured to three intervals.
func (s *Schedule) DefaultMaxAge() {
	if s.MaxAge == 0 {
		s.MaxAge = 3 * s.RefreshInterval
	}
}

// Interval returns RefreshInterval.
func (s *Schedule) Interval() time.Duration { return time.Duration(s.RefreshInterval) }

// Age returns MaxAge.
func (s *Schedule) Age() time.Duration { return time.Duration(s.MaxAge) }

// Validation contains the parameters of Config.Validate.
type Validation struct {
	// Dir is the directory of the configuration file. Relative paths are relative to it.
	Dir string
	// Read contains the names and patterns of files that were already read and whose
	// mistakes were reported. Nil means that files are not read.
	Read map[string]bool
}

// Mistake is a mistake in a configuration or in a file that it names. It never contains a
// secret.
type Mistake struct {
	// File is the path of the file with the mistake, as configured. It is empty if the
	// mistake is in a flag or an environment variable. Config.Validate leaves it empty for
	// the configuration file.
	File string
	// Line counts from 1; 0 means the file as a whole.
	Line int
	// Key is the path of the key, such as "tenants[0].azuread.oauth.client_id",
	// or the name of a flag or of an environment variable. It may be empty.
	// Config.Validate returns it relative to the section, such as "domains[3]".
	Key     string
	Message string
}

// String returns the mistake in one line: "mde.yml:12: tenants[0].name: missing".
func (m Mistake) String() string {
	var b strings.Builder
	b.WriteString(m.File)
	if m.File != "" && m.Line > 0 {
		fmt.Fprintf(&b, ":%d", m.Line)
	}
	for _, part := range []string{m.Key, m.Message} {
		if part != "" {
			if b.Len() > 0 {
				b.WriteString(": ")
			}
			b.WriteString(part)
		}
	}
	return b.String()
}

// Env contains what a collector needs in addition to its Config.
type Env struct {
	// Tenant and Name are the values of the labels tenant and collector. Name is also the
	// configuration key and the prefix of the keys in the Store.
	Tenant, Name string
	Client       *client.Client
	Metrics      *TenantMetrics
	// Store keeps values across restarts. Nil means that values are not kept.
	Store  Store
	Logger *slog.Logger
	// Shared is shared by the collectors of one client, Process by all tenants. Both
	// outlive the collectors.
	Shared, Process *Shared
	// Once means that everything is read once, as soon as the quota allows.
	Once bool
}

// Log returns the Logger with the fields tenant and collector.
func (e Env) Log() *slog.Logger { return e.Logger.With("tenant", e.Tenant, "collector", e.Name) }

// Memory returns the Store as a Memory. If there is none, it uses a new MemoryStore.
func (e Env) Memory() Memory {
	if e.Store == nil {
		e.Store = &MemoryStore{}
	}
	return Memory{e.Store, e.Log()}
}
