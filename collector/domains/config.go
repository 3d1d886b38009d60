package domains

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/readfile"
)

// Config configures the collector of watched domains.
type Config struct {
	collector.Schedule `yaml:",inline"`
	// Domains are those of the configuration and of flags; those of Files come to
	// them. In force they are as Parse returns them, sorted, each once.
	Domains []string `yaml:"domains,omitempty"`
	// Files are the patterns of watch-list files. In force they are absolute.
	Files []string `yaml:"files,omitempty"`
	// Statistics also asks each domain's prevalence, one more call each, of
	// another API with a quota of its own.
	Statistics bool `yaml:"statistics"`
	// MachineInfoLimit is how many machines of each domain are named.
	MachineInfoLimit int `yaml:"machine_info_limit"`
	// DeviceGroups counts the machines of each domain by device group, too.
	DeviceGroups bool `yaml:"device_groups"`

	inherited watched // Valid. Empty in force.
}

// watched is what comes to the section's own domains and files.
type watched struct{ domains, files []string }

// Defaults implements Config.
func (c *Config) Defaults() {
	*c = Config{Schedule: collector.Schedule{Enabled: true, RefreshInterval: model.Duration(time.Hour), Continuous: true}}
}

// Add adds domains, as Parse returns them, to those of the section.
func (c *Config) Add(domains []string) { c.inherited.domains = domains }

// Inherit implements Config: a tenant's domains and files are added to the global ones.
func (c *Config) Inherit(global collector.Config) {
	g := global.(*Config)
	c.inherited = watched{g.Domains, g.Files}
	c.Domains, c.Files = nil, nil
}

// Validate implements Config.
func (c *Config) Validate(v collector.Validation) (mistakes []collector.Mistake) {
	const most = client.DomainMachinesLimit
	if c.MachineInfoLimit < 0 || c.MachineInfoLimit > most {
		mistakes = append(mistakes, collector.Mistake{Key: "machine_info_limit", Message: fmt.Sprintf("%d is not between 0 and %d", c.MachineInfoLimit, most)})
	}
	var domains, files []string
	for i, name := range c.Domains {
		domain, err := parse(name)
		if err != nil {
			mistakes = append(mistakes, collector.Mistake{Key: fmt.Sprintf("domains[%d]", i), Message: err.Error()})
			continue
		}
		domains = append(domains, domain)
	}
	for i, path := range c.Files {
		pattern, more := listFiles(v, path)
		for _, m := range more {
			if m.File == "" {
				m.Key = fmt.Sprintf("files[%d]", i)
			}
			mistakes = append(mistakes, m)
		}
		if pattern != "" {
			files = append(files, pattern)
		}
	}
	c.Domains = sortedSet(c.inherited.domains, domains)
	c.Files = sortedSet(c.inherited.files, files)
	c.inherited = watched{}
	return mistakes
}

// sortedSet returns the values sorted, each once, nil where there are none.
func sortedSet(values ...[]string) []string {
	all := slices.Concat(values...)
	slices.Sort(all)
	return slices.Compact(all)
}

// listFiles returns the absolute pattern of a path of watch-list files, and what is
// wrong with it. Where files are read, it returns the mistakes in those that match,
// once; one without a line is of a file as a whole or of the path.
func listFiles(v collector.Validation, path string) (pattern string, mistakes []collector.Mistake) {
	pattern, err := readfile.Pattern(v.Dir, path)
	if err != nil {
		return "", []collector.Mistake{{Message: err.Error()}}
	}
	if v.Read == nil || v.Read[pattern] {
		return pattern, nil
	}
	v.Read[pattern] = true
	for _, m := range (&Lists{mistakes: math.MaxInt}).List([]string{pattern}).Mistakes {
		if m.Line == 0 {
			m = collector.Mistake{Message: m.File + ": " + m.Message}
		}
		mistakes = append(mistakes, m)
	}
	return pattern, mistakes
}

// WithList returns the domains to watch: those of the configuration and those of
// the list, sorted and each once. It may be the list's own slice and must not be
// changed.
func (c *Config) WithList(list *List) []string {
	if len(c.Domains) == 0 {
		return list.Domains
	}
	return sortedSet(c.Domains, list.Domains)
}

// Needs implements Config.
func (c *Config) Needs() []client.Need {
	needs := []client.Need{{client.DomainMachines}}
	if c.Statistics {
		needs = append(needs, client.Need{client.DomainStats})
	}
	return needs
}

// New implements Config.
func (c *Config) New(e collector.Env) collector.Collector { return New(*c, e, e.Client) }

// Disabled implements Config.
func (c *Config) Disabled() collector.Page { return collector.Page{Table: domainTable} }

// domainTable is the table of watched domains without its rows.
var domainTable = collector.Table{
	Title: "Watched domains", Items: "domains", Marked: "contacted", Runbook: "MDEWatchedDomainContacted", AtLeast: "by 500 machines or more",
	Columns: [3]string{"Domain", "Machines", "Confirmed"},
}
