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
// with yaml tags that embeds a Schedule inline. It holds no map, pointer or
// interface, so that tenants share nothing and reflect.DeepEqual compares two.
type Config interface {
	// Common returns the embedded Schedule.
	Common() *Schedule
	// Defaults sets the values of keys that are missing from the file.
	Defaults()
	// Inherit prepares a copy of the global section, as the file has it, for the
	// tenant's own keys, which are decoded over it. The argument is the global
	// section after Validate, of the same type.
	Inherit(global Config)
	// Validate returns the mistakes of a section whose Schedule is valid, and
	// replaces its values by those in force. It changes no value that another
	// section may share.
	Validate(Validation) []Mistake
	// Needs returns the APIs that the collector cannot do without.
	Needs() []client.Need
	// New returns a collector. It has no side effects before its Start: a reload
	// that is rejected drops it.
	New(Env) Collector
	// Disabled is what a page shows of a collector that is not enabled.
	Disabled() Page
}

// Schedule holds the keys that all collectors have.
type Schedule struct {
	Enabled bool `yaml:"enabled"`
	// RefreshInterval lies between the end of a refresh and the next one.
	RefreshInterval model.Duration `yaml:"refresh_interval"`
	// MaxAge is the age at which values are withdrawn. Zero means the collector's
	// default, which Validate may set.
	MaxAge model.Duration `yaml:"max_age,omitempty"`
	// Continuous starts a refresh as soon as the one before has ended: the
	// collector itself spreads its calls over the interval. Set by Defaults.
	Continuous bool `yaml:"-"`
}

// Common implements Config.
func (s *Schedule) Common() *Schedule { return s }

// Inherit implements Config for collectors whose keys a tenant replaces one by one.
func (*Schedule) Inherit(Config) {}

// Disabled implements Config for collectors without a table.
func (*Schedule) Disabled() Page { return Page{} }

// DefaultMaxAge sets a MaxAge that is not configured to three intervals.
func (s *Schedule) DefaultMaxAge() {
	if s.MaxAge == 0 {
		s.MaxAge = 3 * s.RefreshInterval
	}
}

// Interval is RefreshInterval.
func (s *Schedule) Interval() time.Duration { return time.Duration(s.RefreshInterval) }

// Age is MaxAge.
func (s *Schedule) Age() time.Duration { return time.Duration(s.MaxAge) }

// Validation is what Config.Validate needs to know.
type Validation struct {
	// Dir is the directory of the configuration file, where relative paths begin.
	Dir string
	// Read holds the names and patterns of files that were read and whose mistakes
	// are known. Nil means that files are not read.
	Read map[string]bool
}

// Mistake is a mistake in a configuration or a file that it names. Its text never
// holds a secret.
type Mistake struct {
	// File is the path of the file that holds the mistake, as it was named; empty
	// where the mistake is in a flag or in the environment, or, returned by
	// Config.Validate, in the configuration file.
	File string
	// Line counts from 1; 0 means the file as a whole.
	Line int
	// Key is the path of the key, such as "tenants[0].azuread.oauth.client_id",
	// or the name of a flag or of an environment variable. It may be empty.
	// Config.Validate returns it relative to the section, such as "domains[3]".
	Key     string
	Message string
}

// String is the mistake in one line: "mde.yml:12: tenants[0].name: missing".
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

// Env is what a collector gets beside its Config.
type Env struct {
	// Tenant and Name are the values of the labels tenant and collector. Name is
	// the key of the Config, too, and begins the keys in the Store.
	Tenant, Name string
	Client       *client.Client
	Metrics      *TenantMetrics
	// Store keeps values across restarts. Nil means none does.
	Store  Store
	Logger *slog.Logger
	// Shared is of the collectors of one client, Process of all tenants. Both
	// outlive the collectors.
	Shared, Process *Shared
	// Once says that everything is to be read once, as soon as the quota allows.
	Once bool
}

// Log is the Logger with the labels.
func (e Env) Log() *slog.Logger { return e.Logger.With("tenant", e.Tenant, "collector", e.Name) }

// Memory is the Store, or one of its own where there is none.
func (e Env) Memory() Memory {
	if e.Store == nil {
		e.Store = &MemoryStore{}
	}
	return Memory{e.Store, e.Log()}
}
