package domains

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/readfile"
)

// DefaultList is the name of the list of Config.Domains and Config.Files.
const DefaultList = "default"

// maxNameBytes is the limit of every label value.
const maxNameBytes = 128

// Config configures the collector of watched domains.
type Config struct {
	collector.Schedule `yaml:",inline"`
	// Domains are those of the configuration and of flags. Validate normalizes, sorts
	// and deduplicates them.
	Domains []string `yaml:"domains,omitempty"`
	// Files are the patterns of watch-list files. Validate makes them absolute.
	Files []string `yaml:"files,omitempty"`
	// Lists are the lists besides the one of Domains and Files.
	Lists []ListConfig `yaml:"lists,omitempty"`
	// Statistics also requests each domain's prevalence: one more call per domain, of
	// an API with a separate quota.
	Statistics bool `yaml:"statistics"`
	// MachineInfoLimit is the maximum number of machines of each domain that are
	// exposed by name.
	MachineInfoLimit int `yaml:"machine_info_limit"`
	// DeviceGroups also counts the machines of each domain by device group.
	DeviceGroups bool `yaml:"device_groups"`

	inherited []ListConfig // Validated lists, DefaultList first. Validate sets it to nil.
}

// ListConfig configures a list of watched domains.
type ListConfig struct {
	Name string `yaml:"name"`
	// RefreshInterval defaults to the collector's.
	RefreshInterval model.Duration `yaml:"refresh_interval,omitempty"`
	// MaxAge is the age at which values of the list's domains are withdrawn. Zero
	// means three times the interval that the quota allows the list.
	MaxAge  model.Duration `yaml:"max_age,omitempty"`
	Domains []string       `yaml:"domains,omitempty"` // As in Config.
	Files   []string       `yaml:"files,omitempty"`   // As in Config.
}

// Defaults implements Config.
func (c *Config) Defaults() {
	*c = Config{Schedule: collector.Schedule{Enabled: true, RefreshInterval: model.Duration(time.Hour), Continuous: true}}
}

// Add adds domains, as Parse returns them, to those of the section.
func (c *Config) Add(domains []string) {
	c.inherited = []ListConfig{{Name: DefaultList, Domains: domains}}
}

// Inherit implements Config: a tenant's domains, files and lists are added to the
// global ones. The tenant's own keys determine the default intervals.
func (c *Config) Inherit(global collector.Config) {
	g := global.(*Config)
	c.inherited = []ListConfig{{Name: DefaultList, Domains: g.Domains, Files: g.Files}}
	for _, l := range g.Lists {
		if l.MaxAge < l.RefreshInterval {
			l.MaxAge = 0 // Already reported as a mistake of the global list.
		}
		l.RefreshInterval = c.Lists[indexOf(c.Lists, l.Name)].RefreshInterval
		c.inherited = append(c.inherited, l)
	}
	c.Domains, c.Files, c.Lists = nil, nil, nil
}

// indexOf returns the index of the list with a name, or -1.
func indexOf(lists []ListConfig, name string) int {
	return slices.IndexFunc(lists, func(l ListConfig) bool { return l.Name == name })
}

// Validate implements Config.
func (c *Config) Validate(v collector.Validation) (mistakes []collector.Mistake) {
	const most = client.DomainMachinesLimit
	if c.MachineInfoLimit < 0 || c.MachineInfoLimit > most {
		mistakes = append(mistakes, collector.Mistake{Key: "machine_info_limit", Message: fmt.Sprintf("%d is not between 0 and %d", c.MachineInfoLimit, most)})
	}
	own := ListConfig{Name: DefaultList, Domains: c.Domains, Files: c.Files}
	mistakes = append(mistakes, own.validate("", v)...)
	lists := joined(slices.Clone(c.inherited), own)
	for i, l := range c.Lists {
		if message := c.nameMistake(i); message != "" {
			mistakes = append(mistakes, collector.Mistake{Key: fmt.Sprintf("lists[%d].name", i), Message: message})
			continue
		}
		mistakes = append(mistakes, l.validate(fmt.Sprintf("lists[%d].", i), v)...)
		lists = joined(lists, l)
	}
	for i := range lists {
		l := &lists[i]
		l.Domains, l.Files = sortedSet(l.Domains), sortedSet(l.Files)
		if l.Name == DefaultList {
			continue
		}
		l.RefreshInterval = cmp.Or(l.RefreshInterval, c.RefreshInterval)
		if l.MaxAge != 0 && l.MaxAge < l.RefreshInterval {
			key := "lists"
			if own := indexOf(c.Lists, l.Name); own >= 0 {
				key = fmt.Sprintf("lists[%d].max_age", own)
			}
			mistakes = append(mistakes, collector.Mistake{Key: key, Message: fmt.Sprintf(
				"max_age of %s is shorter than refresh_interval of %s: values would be withdrawn before they are refreshed", l.MaxAge, l.RefreshInterval)})
		}
	}
	c.Domains, c.Files, c.Lists, c.inherited = lists[0].Domains, lists[0].Files, nil, nil
	if len(lists) > 1 {
		c.Lists = lists[1:]
	}
	return mistakes
}

// joined returns lists with l added. If there is a list of the same name, l's domains
// and files are added to it and l's durations replace it if set.
func joined(lists []ListConfig, l ListConfig) []ListConfig {
	i := indexOf(lists, l.Name)
	if i < 0 {
		return append(lists, l)
	}
	at := &lists[i]
	at.RefreshInterval, at.MaxAge = cmp.Or(l.RefreshInterval, at.RefreshInterval), cmp.Or(l.MaxAge, at.MaxAge)
	at.Domains, at.Files = slices.Concat(at.Domains, l.Domains), slices.Concat(at.Files, l.Files)
	return lists
}

// nameMistake returns what is wrong with the name of the i-th further list, or "".
func (c *Config) nameMistake(i int) string {
	name := c.Lists[i].Name
	switch first := indexOf(c.Lists, name); {
	case name == "":
		return "missing"
	case name == DefaultList:
		return "is reserved for watched_domains.domains and watched_domains.files: add the domains there"
	case first < i:
		return fmt.Sprintf("is also the name of lists[%d]", first)
	case len(name) > maxNameBytes:
		return fmt.Sprintf("longer than %d bytes", maxNameBytes)
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }):
		return "must be text without control characters"
	default:
		return ""
	}
}

// validate removes the invalid domains and files from the list and returns their
// mistakes. Key is the prefix of the keys.
func (l *ListConfig) validate(key string, v collector.Validation) (mistakes []collector.Mistake) {
	var domains, files []string
	for i, name := range l.Domains {
		domain, err := parse(name)
		if err != nil {
			mistakes = append(mistakes, collector.Mistake{Key: fmt.Sprintf("%sdomains[%d]", key, i), Message: err.Error()})
			continue
		}
		domains = append(domains, domain)
	}
	for i, path := range l.Files {
		pattern, more := listFiles(v, path)
		for _, m := range more {
			if m.File == "" {
				m.Key = fmt.Sprintf("%sfiles[%d]", key, i)
			}
			mistakes = append(mistakes, m)
		}
		if pattern != "" {
			files = append(files, pattern)
		}
	}
	l.Domains, l.Files = domains, files
	return mistakes
}

// sortedSet returns the sorted values without duplicates, nil if there are none.
func sortedSet(values ...[]string) []string {
	all := slices.Concat(values...)
	slices.Sort(all)
	return slices.Compact(all)
}

// listFiles returns the absolute pattern of a path of watch-list files. If v reads
// files, it also returns the mistakes in the matching files, unless they were returned
// before. A mistake without a line concerns a whole file or the path.
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

// InForce returns the watched lists, the shortest interval first and otherwise in the
// order of the configuration. DefaultList is included if it has domains or files, or if
// there is no other list.
func (c *Config) InForce() []ListConfig {
	lists := slices.Clone(c.Lists)
	if len(c.Domains) > 0 || len(c.Files) > 0 || len(lists) == 0 {
		lists = slices.Insert(lists, 0, ListConfig{Name: DefaultList, RefreshInterval: c.RefreshInterval, MaxAge: c.MaxAge, Domains: c.Domains, Files: c.Files})
	}
	slices.SortStableFunc(lists, func(a, b ListConfig) int { return cmp.Compare(a.RefreshInterval, b.RefreshInterval) })
	return lists
}

// With returns the domains of the configuration and of the list's files, sorted and
// without duplicates. The result may share memory with files and must not be modified.
func (l *ListConfig) With(files *List) []string {
	if len(l.Domains) == 0 {
		return files.Domains
	}
	return sortedSet(l.Domains, files.Domains)
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

// domainTable is the table of watched domains, without rows.
var domainTable = collector.Table{
	Title: "Watched domains", Items: "domains", Marked: "contacted", Runbook: "MDEWatchedDomainContacted", AtLeast: "by 500 machines or more",
	Columns: [3]string{"Domain", "Machines", "Counted"},
}
