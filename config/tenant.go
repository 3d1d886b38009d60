package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"slices"
	"time"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
)

// The sources of security states.
const (
	// SourceAuto asks the Graph preview first and changes over to the machines
	// API where the preview is gone or refused.
	SourceAuto                  = "auto"
	SourceMachineSecurityStates = "machinesecuritystates"
	SourceMachines              = "machines"
)

// Tenant is the validated configuration of one tenant. It prints as YAML with
// its secrets masked.
type Tenant struct {
	// Name is the value of the tenant label.
	Name string
	// RequestTimeout bounds one API call, its body included.
	RequestTimeout time.Duration
	SecurityStates SecurityStates
	WatchedDomains WatchedDomains
	Quota          client.Limits

	azureAD    azureADSection
	endpoints  endpointsSection
	graphScope string
	http       httpSection

	at position
}

// SecurityStates configure the collector of machine security states.
type SecurityStates struct {
	Enabled bool
	// Source is SourceAuto, SourceMachineSecurityStates or SourceMachines.
	Source          string
	RefreshInterval time.Duration
	// MaxAge is the age past which values are withdrawn.
	MaxAge time.Duration
	// RevisionLabel adds os_revision to the fleet's gauges.
	RevisionLabel bool
	// MaxMachines is how many distinct machines may be read; more fail the refresh.
	MaxMachines int
}

// WatchedDomains configure the collector of watched domains.
type WatchedDomains struct {
	Enabled         bool
	RefreshInterval time.Duration
	// MaxAge is the age past which values are withdrawn. Zero means three times
	// the interval that the quota allows for the list.
	MaxAge time.Duration
	// Domains are those of the configuration and of flags: as ParseDomain
	// returns them, sorted, each of them once. Read adds those of Files.
	Domains []string
	// Files are the absolute patterns of watch-list files.
	Files []string
	// Statistics also asks for each domain's prevalence.
	Statistics bool
	// MachineInfoLimit is how many machines of each domain are named.
	MachineInfoLimit int
}

// Needs are the APIs that the collector cannot do without.
func (s SecurityStates) Needs() []client.Need {
	const preview = client.MachineSecurityStates
	switch {
	case !s.Enabled:
		return nil
	case s.Source == SourceMachineSecurityStates:
		return []client.Need{{preview}}
	case s.Source == SourceMachines:
		return []client.Need{{client.Machines}, {client.DeviceAVInfo}}
	default:
		return []client.Need{{preview, client.Machines}, {preview, client.DeviceAVInfo}}
	}
}

// Needs are the APIs that the collector cannot do without.
func (w WatchedDomains) Needs() []client.Need {
	switch {
	case !w.Enabled:
		return nil
	case w.Statistics:
		return []client.Need{{client.DomainMachines}, {client.DomainStats}}
	default:
		return []client.Need{{client.DomainMachines}}
	}
}

// Equal tells whether two watched-domains configurations are the same. It does
// not look into the files.
func (w WatchedDomains) Equal(o WatchedDomains) bool {
	return slices.Equal(w.Domains, o.Domains) && slices.Equal(w.Files, o.Files) &&
		w.Enabled == o.Enabled && w.RefreshInterval == o.RefreshInterval && w.MaxAge == o.MaxAge &&
		w.Statistics == o.Statistics && w.MachineInfoLimit == o.MachineInfoLimit
}

// SameClient tells whether two tenants sign in as the same app, to the same
// hosts, in the same way and with the same quota, so that the client of one can
// go on serving the other.
func (t *Tenant) SameClient(o *Tenant) bool {
	return t.Name == o.Name && t.RequestTimeout == o.RequestTimeout && t.Quota == o.Quota &&
		t.credential() == o.credential() && t.endpoints == o.endpoints &&
		t.graphScope == o.graphScope && t.http == o.http
}

// Equal tells whether nothing changed from one tenant to the other.
func (t *Tenant) Equal(o *Tenant) bool {
	return t.SameClient(o) && t.SecurityStates == o.SecurityStates && t.WatchedDomains.Equal(o.WatchedDomains)
}

// ClientOptions are the options of the tenant's client, with a transport of its
// own. The transport reads its TLS files again when they change; it does not
// ask for compressed answers by itself. The error is about a TLS file that
// changed since it was checked, and names it where it cannot be read.
func (t *Tenant) ClientOptions() (client.Options, error) {
	transport, err := t.http.transport()
	if unread, ok := errors.AsType[*fs.PathError](err); ok {
		return client.Options{}, fmt.Errorf("tenant %s: http_config.tls_config: %w", t.Name, unread)
	}
	if err != nil {
		// Some errors quote the content of a file.
		return client.Options{}, fmt.Errorf("tenant %s: http_config.tls_config: a certificate or its key cannot be used: run --config.check", t.Name)
	}
	o := client.Options{
		GraphScope:     t.graphScope,
		APIScope:       t.endpoints.APIScope,
		Credential:     t.credential(),
		Secrets:        t.http.secrets(),
		Transport:      transport,
		RequestTimeout: t.RequestTimeout,
		Quota:          t.Quota,
	}
	for _, endpoint := range []struct {
		to   **url.URL
		text string
	}{{&o.LoginURL, t.endpoints.LoginURL}, {&o.GraphURL, t.endpoints.GraphURL}, {&o.APIURL, t.endpoints.APIURL}} {
		if *endpoint.to, err = url.Parse(endpoint.text); err != nil {
			return client.Options{}, fmt.Errorf("tenant %s: endpoints: %w", t.Name, err)
		}
	}
	return o, nil
}

// section is the tenant in the shape of the file.
func (t *Tenant) section() tenantSection {
	return tenantSection{
		Name:       t.Name,
		AzureAD:    t.azureAD,
		Endpoints:  t.endpoints,
		HTTPConfig: t.http,
		Settings: settingsSection{
			RequestTimeout: model.Duration(t.RequestTimeout),
			SecurityStates: securityStatesSection{
				Enabled:         t.SecurityStates.Enabled,
				Source:          t.SecurityStates.Source,
				RefreshInterval: model.Duration(t.SecurityStates.RefreshInterval),
				MaxAge:          model.Duration(t.SecurityStates.MaxAge),
				RevisionLabel:   t.SecurityStates.RevisionLabel,
				MaxMachines:     t.SecurityStates.MaxMachines,
			},
			WatchedDomains: watchedDomainsSection{
				Enabled:          t.WatchedDomains.Enabled,
				RefreshInterval:  model.Duration(t.WatchedDomains.RefreshInterval),
				MaxAge:           model.Duration(t.WatchedDomains.MaxAge),
				Domains:          t.WatchedDomains.Domains,
				Files:            t.WatchedDomains.Files,
				Statistics:       t.WatchedDomains.Statistics,
				MachineInfoLimit: t.WatchedDomains.MachineInfoLimit,
			},
			Quota: quotaSection{CallsPerMinute: t.Quota.CallsPerMinute, CallsPerHour: t.Quota.CallsPerHour},
		},
	}
}

// String is the tenant as YAML, with its secrets masked.
func (t Tenant) String() string { return yamlText(t.section()) }

// Format prints String, whatever the verb: fmt would print fields by itself for
// some, and knows nothing of secrets.
func (t Tenant) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// LogValue is the tenant's name.
func (t Tenant) LogValue() slog.Value { return slog.StringValue(t.Name) }
