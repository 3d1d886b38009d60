package config

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
)

const (
	// The documented limits of each API. A tenant whose limits were raised may
	// have more, up to mostCalls, which bounds the memory of the quota.
	defaultCallsPerMinute = 100
	defaultCallsPerHour   = 1500
	mostCalls             = 100_000
	// mostMachines is far more than a tenant has, and what an index can number.
	mostMachines = 100_000_000
	// maxNameBytes bounds the tenant label as all labels are bounded.
	maxNameBytes = 128
	// maxAgeIntervals is the default of max_age in refresh intervals.
	maxAgeIntervals = 3
)

// validator turns sections into tenants and notes what is wrong with them.
type validator struct {
	// dir is where relative paths begin.
	dir    string
	getenv func(string) string
	// added are the domains that flags add to every list.
	added []string
	// problems are those of flags and of watch-list files; those of a
	// document are noted there.
	problems Problems
	// listsChecked are the patterns of watch lists whose files were read. Nil
	// means that the files are not read.
	listsChecked map[string]bool
}

func newValidator(o Overrides) *validator {
	v := &validator{getenv: o.Getenv}
	if v.getenv == nil {
		v.getenv = os.Getenv
	}
	for _, name := range o.WatchedDomains {
		domain, err := ParseDomain(name)
		if err != nil {
			v.problems = append(v.problems, Problem{Key: "--watched-domain", Message: err.Error()})
			continue
		}
		v.added = append(v.added, domain)
	}
	return v
}

// typesChecked notes an error of decoding a section whose shape was checked
// before: what the check did not foresee, if there is such a thing.
func (v *validator) typesChecked(doc *document, err error) {
	if err != nil && len(doc.problems) == 0 {
		doc.yamlProblems(err)
	}
}

// watchList is what tenants inherit from the global section.
type watchList struct {
	domains, files []string
}

// global validates the global section by itself, so that its mistakes are told
// once, and even where there is no tenant.
func (v *validator) global(at position, s settingsSection) watchList {
	lists := watchList{
		domains: v.domains(at.key("watched_domains").key("domains"), s.WatchedDomains.Domains),
		files:   v.files(at.key("watched_domains").key("files"), s.WatchedDomains.Files),
	}
	s.WatchedDomains.Domains, s.WatchedDomains.Files = nil, nil
	v.settings(at, s, lists, &Tenant{})
	return lists
}

// tenant validates one section.
func (v *validator) tenant(at position, s tenantSection, inherited watchList) *Tenant {
	t := &Tenant{at: at}
	t.azureAD = v.azureAD(at.key("azuread"), s.AzureAD)
	t.endpoints, t.graphScope = v.endpoints(at.key("endpoints"), s.Endpoints, s.AzureAD.Cloud)
	t.http = v.http(at.key("http_config"), s.HTTPConfig)
	t.Name = v.name(at.key("name"), s.Name, t.azureAD)
	v.settings(at, s.Settings, inherited, t)
	return t
}

// settings validates what can stand under a tenant and under global.
func (v *validator) settings(at position, s settingsSection, inherited watchList, to *Tenant) {
	to.RequestTimeout = positive(at.key("request_timeout"), s.RequestTimeout)
	to.SecurityStates = v.securityStates(at.key("security_states"), s.SecurityStates)
	to.WatchedDomains = v.watchedDomains(at.key("watched_domains"), s.WatchedDomains, inherited)
	to.Quota = v.quota(at.key("quota"), s.Quota)
}

// name is the tenant's own or its tenant id.
func (v *validator) name(at position, name string, a azureADSection) string {
	if name == "" {
		name = a.tenantID()
		if name == "" && a.ManagedIdentity != nil {
			at.problem("missing: with a managed identity there is no tenant id to take its place")
		}
		return name
	}
	switch {
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		at.problem("must be text without control characters")
	case len(name) > maxNameBytes:
		at.problem("longer than %d bytes", maxNameBytes)
	}
	return name
}

// uniqueNames makes sure that no two tenants share a label.
func (v *validator) uniqueNames(at position, tenants []*Tenant) {
	first := map[string]int{}
	for i, t := range tenants {
		if j, taken := first[t.Name]; taken && t.Name != "" {
			at.index(i).key("name").problem("is the name of %s too", at.index(j).path)
			continue
		}
		first[t.Name] = i
	}
}

func (v *validator) securityStates(at position, s securityStatesSection) SecurityStates {
	if sources := []string{SourceAuto, SourceMachineSecurityStates, SourceMachines}; !slices.Contains(sources, s.Source) {
		at.key("source").problem("is not one of %s", strings.Join(sources, ", "))
	}
	if s.MaxMachines < 1 || s.MaxMachines > mostMachines {
		at.key("max_machines").problem("%d is not between 1 and %d", s.MaxMachines, mostMachines)
	}
	return SecurityStates{
		Enabled:         s.Enabled,
		Source:          s.Source,
		RefreshInterval: positive(at.key("refresh_interval"), s.RefreshInterval),
		MaxAge:          maxAge(at, s.MaxAge, s.RefreshInterval, maxAgeIntervals*time.Duration(s.RefreshInterval)),
		RevisionLabel:   s.RevisionLabel,
		MaxMachines:     s.MaxMachines,
	}
}

func (v *validator) watchedDomains(at position, s watchedDomainsSection, inherited watchList) WatchedDomains {
	const most = client.DomainMachinesLimit
	if s.MachineInfoLimit < 0 || s.MachineInfoLimit > most {
		at.key("machine_info_limit").problem("%d is not between 0 and %d", s.MachineInfoLimit, most)
	}
	domains := slices.Concat(v.added, inherited.domains, v.domains(at.key("domains"), s.Domains))
	files := slices.Concat(inherited.files, v.files(at.key("files"), s.Files))
	slices.Sort(domains)
	slices.Sort(files)
	return WatchedDomains{
		Enabled:          s.Enabled,
		RefreshInterval:  positive(at.key("refresh_interval"), s.RefreshInterval),
		MaxAge:           maxAge(at, s.MaxAge, s.RefreshInterval, 0),
		Domains:          slices.Compact(domains),
		Files:            slices.Compact(files),
		Statistics:       s.Statistics,
		MachineInfoLimit: s.MachineInfoLimit,
	}
}

func (v *validator) domains(at position, names []string) []string {
	var domains []string
	for i, name := range names {
		domain, err := parseDomain(name)
		if err != nil {
			at.index(i).problem("%s", err)
			continue
		}
		domains = append(domains, domain)
	}
	return domains
}

// files makes patterns absolute. Where lists are checked, it reports every
// mistake in the files they match; one of a file as a whole belongs to the key
// that names it.
func (v *validator) files(at position, paths []string) []string {
	var patterns []string
	for i, path := range paths {
		switch {
		case path == "":
			at.index(i).problem("an empty name")
			continue
		case strings.ContainsFunc(path, unicode.IsControl):
			at.index(i).problem("must be the path of a file, without line breaks or control characters")
			continue
		}
		p := absolutePattern(v.dir, path)
		if err := checkPattern(p); err != nil {
			at.index(i).problem("%s: %s", p, err)
			continue
		}
		patterns = append(patterns, p)
		if v.listsChecked == nil || v.listsChecked[p] {
			continue
		}
		v.listsChecked[p] = true
		for _, problem := range readPattern(context.Background(), p) {
			if problem.Line > 0 {
				v.problems = append(v.problems, problem)
			} else {
				at.index(i).problem("%s: %s", problem.File, problem.Message)
			}
		}
	}
	return patterns
}

func (v *validator) quota(at position, s quotaSection) client.Limits {
	for _, limit := range []struct {
		key   string
		value int
	}{{"calls_per_minute", s.CallsPerMinute}, {"calls_per_hour", s.CallsPerHour}} {
		if limit.value < 1 || limit.value > mostCalls {
			at.key(limit.key).problem("%d is not between 1 and %d", limit.value, mostCalls)
		}
	}
	return client.Limits{CallsPerMinute: s.CallsPerMinute, CallsPerHour: s.CallsPerHour}
}

// positive is a duration that must not be nothing.
func positive(at position, d model.Duration) time.Duration {
	if d <= 0 {
		at.problem("must be longer than 0s")
	}
	return time.Duration(d)
}

// maxAge is the key max_age beside the key refresh_interval, or what stands for
// it where it is not set.
func maxAge(at position, age, interval model.Duration, unset time.Duration) time.Duration {
	if age == 0 && !at.key("max_age").origin().set() {
		return unset
	}
	if age < interval {
		culprit := at.key("max_age")
		if own := at.key("refresh_interval"); own.set() && !culprit.set() {
			culprit = own
		}
		culprit.problem("max_age of %s is shorter than refresh_interval of %s: values would be withdrawn before they are refreshed", age, interval)
	}
	return time.Duration(age)
}

// required is a path that must be there.
func (v *validator) required(at position, path string) string {
	if path == "" {
		at.problem("missing")
	}
	return v.path(at, path)
}

// path makes a path absolute. One with line breaks is rejected, since it is the
// content of a file, such as a key, which messages about the file would repeat.
func (v *validator) path(at position, path string) string {
	if strings.ContainsFunc(path, unicode.IsControl) {
		at.problem("must be the path of a file, without line breaks or control characters")
		return ""
	}
	if path == "" || filepath.IsAbs(path) || v.dir == "" {
		return path
	}
	return filepath.Join(v.dir, path)
}
