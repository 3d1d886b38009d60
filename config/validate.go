package config

import (
	"errors"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
)

const (
	// The documented limits of each API. Asking for more would only be refused.
	maxCallsPerMinute = 100
	maxCallsPerHour   = 1500
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
	// read remembers the patterns that were looked at.
	read map[string]bool
}

func newValidator(dir string, o Overrides) *validator {
	v := &validator{dir: dir, getenv: o.Getenv, read: map[string]bool{}}
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
			at.index(i).key("name").problem("%s is the name of %s too", excerpt(t.Name), at.index(j).path)
			continue
		}
		first[t.Name] = i
	}
}

func (v *validator) securityStates(at position, s securityStatesSection) SecurityStates {
	if sources := []string{SourceAuto, SourceMachineSecurityStates, SourceMachines}; !slices.Contains(sources, s.Source) {
		at.key("source").problem("%s is not one of %s", excerpt(s.Source), strings.Join(sources, ", "))
	}
	return SecurityStates{
		Enabled:         s.Enabled,
		Source:          s.Source,
		RefreshInterval: positive(at.key("refresh_interval"), s.RefreshInterval),
		MaxAge:          maxAge(at, s.MaxAge, s.RefreshInterval),
		RevisionLabel:   s.RevisionLabel,
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
		MaxAge:           maxAge(at, s.MaxAge, s.RefreshInterval),
		Domains:          slices.Compact(domains),
		Files:            slices.Compact(files),
		Statistics:       s.Statistics,
		MachineInfoLimit: s.MachineInfoLimit,
	}
}

func (v *validator) domains(at position, names []string) []string {
	var domains []string
	for i, name := range names {
		domain, err := ParseDomain(name)
		if err != nil {
			at.index(i).problem("%s", err)
			continue
		}
		domains = append(domains, domain)
	}
	return domains
}

// files makes patterns absolute and notes every mistake in the files they
// match. A mistake of a file as a whole belongs to the key that names it.
func (v *validator) files(at position, paths []string) []string {
	var patterns []string
	for i, path := range paths {
		if path == "" {
			at.index(i).problem("an empty name")
			continue
		}
		p := absolutePattern(v.dir, path)
		patterns = append(patterns, p)
		if v.read[p] {
			continue
		}
		v.read[p] = true
		_, problems := readLists(p)
		for _, problem := range problems {
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
		key         string
		value, most int
	}{{"calls_per_minute", s.CallsPerMinute, maxCallsPerMinute}, {"calls_per_hour", s.CallsPerHour, maxCallsPerHour}} {
		if limit.value < 1 || limit.value > limit.most {
			at.key(limit.key).problem("%d is not between 1 and the documented limit of %d", limit.value, limit.most)
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

// maxAge is the key max_age beside the key refresh_interval.
func maxAge(at position, age, interval model.Duration) time.Duration {
	if age == 0 && !at.key("max_age").origin().set() {
		return maxAgeIntervals * time.Duration(interval)
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

// azureAD validates how a tenant is signed in to.
func (v *validator) azureAD(at position, a azureADSection) azureADSection {
	if _, ok := cloudNamed(a.Cloud); !ok {
		var names []string
		for _, c := range clouds {
			names = append(names, c.name)
		}
		at.key("cloud").problem("%s is not one of %s", excerpt(a.Cloud), strings.Join(names, ", "))
	}
	var methods []string
	if m := a.OAuth; m != nil {
		methods = append(methods, "oauth")
		v.oauth(at.key("oauth"), m)
	}
	if m := a.Certificate; m != nil {
		methods = append(methods, "certificate")
		at := at.key("certificate")
		v.app(at, m.TenantID, m.ClientID)
		m.CertificatePath = v.required(at.key("certificate_path"), m.CertificatePath)
		m.CertificateKeyPath = v.path(m.CertificateKeyPath)
	}
	if m := a.WorkloadIdentity; m != nil {
		methods = append(methods, "workload_identity")
		at := at.key("workload_identity")
		v.app(at, m.TenantID, m.ClientID)
		m.TokenFilePath = v.required(at.key("token_file_path"), m.TokenFilePath)
	}
	if m := a.ManagedIdentity; m != nil {
		methods = append(methods, "managed_identity")
		m.endpoint, m.header = v.getenv("IDENTITY_ENDPOINT"), secret(v.getenv("IDENTITY_HEADER"))
		if m.ClientID != "" {
			clientID(at.key("managed_identity").key("client_id"), m.ClientID)
		}
	}
	switch len(methods) {
	case 0:
		if at.broken() {
			break
		}
		at.problem("missing: one of oauth, certificate, workload_identity and managed_identity is needed")
	case 1:
	default:
		at.problem("only one of %s can be used", strings.Join(methods, ", "))
	}
	return a
}

func (v *validator) oauth(at position, m *oauthSection) {
	v.app(at, m.TenantID, m.ClientID)
	switch {
	case m.ClientSecret == "" && m.ClientSecretFile == "":
		at.key("client_secret").problem("missing: it or client_secret_file is needed")
	case m.ClientSecret != "" && m.ClientSecretFile != "":
		at.key("client_secret_file").problem("only one of client_secret and client_secret_file can be used")
	}
	m.ClientSecretFile = v.path(m.ClientSecretFile)
}

// app validates the two ids of an app registration.
func (v *validator) app(at position, tenant, app string) {
	tenantID(at.key("tenant_id"), tenant)
	if app == "" {
		at.key("client_id").problem("missing")
		return
	}
	clientID(at.key("client_id"), app)
}

var guid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// tenantID is a GUID or one of the tenant's domains. It becomes a part of the
// path of the token URL.
func tenantID(at position, id string) {
	if id == "" {
		at.problem("missing")
		return
	}
	if _, err := ParseDomain(id); err != nil && !guid.MatchString(id) {
		at.problem("%s is neither a tenant id such as 00000000-0000-0000-0000-000000000000 nor a domain such as contoso.onmicrosoft.com", excerpt(id))
	}
}

func clientID(at position, id string) {
	if !guid.MatchString(id) {
		at.problem("%s is not an application (client) id such as 00000000-0000-0000-0000-000000000000", excerpt(id))
	}
}

// tenantID is the id in whichever method is used, or nothing.
func (a azureADSection) tenantID() string {
	switch {
	case a.OAuth != nil:
		return a.OAuth.TenantID
	case a.Certificate != nil:
		return a.Certificate.TenantID
	case a.WorkloadIdentity != nil:
		return a.WorkloadIdentity.TenantID
	default:
		return ""
	}
}

// required is a path that must be there.
func (v *validator) required(at position, path string) string {
	if path == "" {
		at.problem("missing")
	}
	return v.path(path)
}

// path makes a path absolute.
func (v *validator) path(path string) string {
	if path == "" || filepath.IsAbs(path) || v.dir == "" {
		return path
	}
	return filepath.Join(v.dir, path)
}

// endpoints fills in what the cloud says where nothing overrides it.
func (v *validator) endpoints(at position, e endpointsSection, cloudName string) (endpointsSection, string) {
	of, ok := cloudNamed(cloudName)
	if !ok {
		of = clouds[0]
	}
	for _, endpoint := range []struct {
		key   string
		value *string
		cloud string
	}{
		{"login_url", &e.LoginURL, of.LoginURL},
		{"graph_url", &e.GraphURL, of.GraphURL},
		{"api_url", &e.APIURL, of.APIURL},
	} {
		if *endpoint.value == "" {
			*endpoint.value = endpoint.cloud
			continue
		}
		origin, err := parseOrigin(*endpoint.value)
		if err != nil {
			at.key(endpoint.key).problem("%s", err)
		}
		*endpoint.value = origin
	}
	if e.APIScope == "" {
		e.APIScope = of.APIScope
	} else if u, err := url.Parse(e.APIScope); err != nil || u.Scheme == "" || !strings.HasSuffix(e.APIScope, "/.default") {
		at.key("api_scope").problem("%s is not a scope such as %s", excerpt(e.APIScope), of.APIScope)
	}
	return e, of.graphScopeOf(e.GraphURL)
}

// parseOrigin accepts the URL of a host: https, or plain http to this very
// machine, and nothing behind the host. The errors do not repeat the URL, which
// may hold a password.
func parseOrigin(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return "", errors.New("not the URL of a host, such as https://api.example.com")
	case u.User != nil:
		return "", errors.New("must not hold a user name or password")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", errors.New("must end after the host: no path, query or fragment")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return "", errors.New("plain http is allowed to a loopback address only: use https")
	case u.Scheme != "http" && u.Scheme != "https":
		return "", errors.New("must begin with https://")
	}
	return u.Scheme + "://" + strings.ToLower(u.Host), nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// http validates how the hosts are reached.
func (v *validator) http(at position, h httpSection) httpSection {
	if h.ProxyURL != "" {
		u, err := url.Parse(string(h.ProxyURL))
		if err != nil || u.Hostname() == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
			at.key("proxy_url").problem("not the URL of a proxy, such as http://proxy.example.com:3128")
			h.ProxyURL = ""
		}
	}
	c := h.clientConfig()
	if err := c.ProxyConfig.Validate(); err != nil {
		at.problem("%s", err)
	}
	h.TLSConfig.CAFile = v.path(h.TLSConfig.CAFile)
	h.TLSConfig.CertFile = v.path(h.TLSConfig.CertFile)
	h.TLSConfig.KeyFile = v.path(h.TLSConfig.KeyFile)
	v.tls(at.key("tls_config"), h.TLSConfig)
	return h
}
