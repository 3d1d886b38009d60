package config

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/collector"
)

const (
	// The documented limits of each API. maxCalls is the maximum for tenants with
	// raised limits; it bounds the memory of the quota.
	defaultCallsPerMinute = 100
	defaultCallsPerHour   = 1500
	maxCalls              = 100_000
	// maxNameBytes is the limit of every label value.
	maxNameBytes = 128
)

// validator validates sections and collects mistakes.
type validator struct {
	// dir is the base of relative paths.
	dir    string
	getenv func(string) string
	// watched are the domains that flags add to every list.
	watched []string
	// problems are mistakes in flags and watch-list files. Those of a document are in
	// the document.
	problems Problems
	// read is collector.Validation.Read.
	read map[string]bool
}

func newValidator(o Overrides) *validator {
	v := &validator{getenv: o.Getenv, watched: o.WatchedDomains}
	if v.getenv == nil {
		v.getenv = os.Getenv
	}
	return v
}

// addDecodeError adds an error of decoding a section. There should be none after
// checkShape.
func (v *validator) addDecodeError(doc *document, err error) {
	if err != nil {
		doc.yamlProblems(err)
	}
}

// tenant validates a tenant.
func (v *validator) tenant(at position, s tenantSection) *Tenant {
	v.azureAD(at.key("azuread"), &s.AzureAD)
	v.endpoints(at.key("endpoints"), &s.Endpoints, s.AzureAD.Cloud)
	v.http(at.key("http_config"), &s.HTTPConfig)
	s.Name = v.name(at.key("name"), s.Name, &s.AzureAD)
	v.validate(at, &s.settingsSection)
	if v.read != nil {
		s.AzureAD.credentialFiles(at.key("azuread"))
	}
	return &Tenant{s}
}

// validate validates the settings of a tenant or of global.
func (v *validator) validate(at position, s *settingsSection) {
	positive(at.key("request_timeout"), s.RequestTimeout)
	for name, c := range s.All() {
		at := at.key(name)
		validateSchedule(at, c.Common())
		for _, m := range c.Validate(collector.Validation{Dir: v.dir, Read: v.read}) {
			if m.File != "" {
				v.problems = append(v.problems, m)
			} else {
				at.key(m.Key).problem("%s", m.Message)
			}
		}
	}
	for _, limit := range []struct {
		key   string
		value int
	}{{"calls_per_minute", s.Quota.CallsPerMinute}, {"calls_per_hour", s.Quota.CallsPerHour}} {
		if limit.value < 1 || limit.value > maxCalls {
			at.key("quota").key(limit.key).problem("%d is not between 1 and %d", limit.value, maxCalls)
		}
	}
}

// validateSchedule validates the keys that all collectors have.
func validateSchedule(at position, s *collector.Schedule) {
	positive(at.key("refresh_interval"), s.RefreshInterval)
	if age := at.key("max_age"); s.MaxAge < s.RefreshInterval && (s.MaxAge != 0 || age.origin().set()) {
		if own := at.key("refresh_interval"); own.set() && !age.set() {
			age = own
		}
		age.problem("max_age of %s is shorter than refresh_interval of %s: values would be withdrawn before they are refreshed", s.MaxAge, s.RefreshInterval)
	}
}

// name returns the name of a tenant, by default its tenant id.
func (v *validator) name(at position, name string, a *azureADSection) string {
	if name == "" {
		_, m := a.method()
		name = m.tenantID()
		if name == "" && a.ManagedIdentity != nil {
			at.problem("missing: required with a managed identity, which has no tenant id")
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

// uniqueNames reports tenants with the same name.
func uniqueNames(tenants []*Tenant, places []position) {
	first := map[string]position{}
	for i, t := range tenants {
		if other, taken := first[t.Name]; taken && t.Name != "" {
			places[i].key("name").problem("is also the name of %s", cmp.Or(other.path, other.doc.file))
			continue
		}
		first[t.Name] = places[i]
	}
}

// positive reports a duration that is not positive.
func positive(at position, d model.Duration) {
	if d <= 0 {
		at.problem("must be longer than 0s")
	}
}

// path makes a path absolute. On Windows a path that begins with a separator is on the
// drive of the configuration file. It rejects a path with line breaks: that is the
// content of a file, such as a key, and messages would repeat it.
func (v *validator) path(at position, path string) string {
	if strings.ContainsFunc(path, unicode.IsControl) {
		at.problem("must be the path of a file, without line breaks or control characters")
		return ""
	}
	if path == "" || filepath.IsAbs(path) || v.dir == "" {
		return path
	}
	if os.IsPathSeparator(path[0]) {
		return filepath.VolumeName(v.dir) + path
	}
	return filepath.Join(v.dir, path)
}
