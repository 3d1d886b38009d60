package config

import (
	"strings"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/collector"
)

// The types of this file are the shape of the configuration file. They hold
// what stands there, unjudged; validate.go turns them into a Tenant.

// fileSection is the whole file.
type fileSection struct {
	Global  settingsSection `yaml:"global,omitempty"`
	Tenants []tenantSection `yaml:"tenants"`
}

// tenantSection is one of the tenants.
type tenantSection struct {
	Name       string           `yaml:"name"`
	AzureAD    azureADSection   `yaml:"azuread"`
	Endpoints  endpointsSection `yaml:"endpoints"`
	HTTPConfig httpSection      `yaml:"http_config"`

	Settings settingsSection `yaml:",inline"`
}

// settingsSection is what can be set under global and under a tenant.
type settingsSection struct {
	RequestTimeout model.Duration        `yaml:"request_timeout"`
	SecurityStates securityStatesSection `yaml:"security_states"`
	WatchedDomains watchedDomainsSection `yaml:"watched_domains"`
	Quota          quotaSection          `yaml:"quota"`
}

type securityStatesSection struct {
	Enabled         bool           `yaml:"enabled"`
	Source          string         `yaml:"source"`
	RefreshInterval model.Duration `yaml:"refresh_interval"`
	// MaxAge of 0 stands for three times the refresh interval.
	MaxAge        model.Duration `yaml:"max_age,omitempty"`
	RevisionLabel bool           `yaml:"revision_label"`
	MaxMachines   int            `yaml:"max_machines"`
}

type watchedDomainsSection struct {
	Enabled         bool           `yaml:"enabled"`
	RefreshInterval model.Duration `yaml:"refresh_interval"`
	// MaxAge of 0 stands for three times the refresh interval.
	MaxAge           model.Duration `yaml:"max_age,omitempty"`
	Domains          []string       `yaml:"domains,omitempty"`
	Files            []string       `yaml:"files,omitempty"`
	Statistics       bool           `yaml:"statistics"`
	MachineInfoLimit int            `yaml:"machine_info_limit"`
}

type quotaSection struct {
	CallsPerMinute int `yaml:"calls_per_minute"`
	CallsPerHour   int `yaml:"calls_per_hour"`
}

// azureADSection holds exactly one of the methods.
type azureADSection struct {
	Cloud            string                   `yaml:"cloud"`
	OAuth            *oauthSection            `yaml:"oauth,omitempty"`
	Certificate      *certificateSection      `yaml:"certificate,omitempty"`
	WorkloadIdentity *workloadIdentitySection `yaml:"workload_identity,omitempty"`
	ManagedIdentity  *managedIdentitySection  `yaml:"managed_identity,omitempty"`
}

type oauthSection struct {
	TenantID         string `yaml:"tenant_id"`
	ClientID         string `yaml:"client_id"`
	ClientSecret     secret `yaml:"client_secret,omitempty"`
	ClientSecretFile string `yaml:"client_secret_file,omitempty"`
}

type certificateSection struct {
	TenantID                string `yaml:"tenant_id"`
	ClientID                string `yaml:"client_id"`
	CertificatePath         string `yaml:"certificate_path"`
	CertificateKeyPath      string `yaml:"certificate_key_path,omitempty"`
	CertificatePassword     secret `yaml:"certificate_password,omitempty"`
	CertificatePasswordFile string `yaml:"certificate_password_file,omitempty"`
}

type workloadIdentitySection struct {
	TenantID      string `yaml:"tenant_id"`
	ClientID      string `yaml:"client_id"`
	TokenFilePath string `yaml:"token_file_path"`
}

type managedIdentitySection struct {
	ClientID string `yaml:"client_id,omitempty"`

	// endpoint, header and imdsEndpoint come from the platform's environment, not
	// from the file.
	endpoint     string
	header       secret
	imdsEndpoint string
}

// endpointsSection overrides what the cloud says; empty values are the cloud's.
type endpointsSection struct {
	LoginURL string `yaml:"login_url"`
	GraphURL string `yaml:"graph_url"`
	APIURL   string `yaml:"api_url"`
	APIScope string `yaml:"api_scope"`
}

// httpSection is the part of Prometheus's HTTP client configuration that makes
// sense here: signing in is azuread's business, and redirects are never followed.
type httpSection struct {
	ProxyURL             secretURL  `yaml:"proxy_url,omitempty"`
	NoProxy              string     `yaml:"no_proxy,omitempty"`
	ProxyFromEnvironment bool       `yaml:"proxy_from_environment,omitempty"`
	TLSConfig            tlsSection `yaml:"tls_config"`
	EnableHTTP2          bool       `yaml:"enable_http2"`
}

// tlsSection has Prometheus's keys without Prometheus's decoding, whose errors
// know no line.
type tlsSection promconfig.TLSConfig

// MarshalYAML masks certificates that hold a private key, too.
func (t tlsSection) MarshalYAML() (any, error) {
	for _, pem := range []*string{&t.CA, &t.Cert} {
		if strings.Contains(*pem, "PRIVATE KEY") {
			*pem = masked
		}
	}
	return promconfig.TLSConfig(t), nil
}

// defaultSettings are the values of keys that stand nowhere in the file.
func defaultSettings() settingsSection {
	return settingsSection{
		RequestTimeout: model.Duration(time.Minute),
		SecurityStates: securityStatesSection{
			Enabled:         true,
			Source:          SourceAuto,
			RefreshInterval: model.Duration(15 * time.Minute),
			MaxMachines:     collector.DefaultMaxMachines,
		},
		WatchedDomains: watchedDomainsSection{
			Enabled:         true,
			RefreshInterval: model.Duration(time.Hour),
		},
		Quota: quotaSection{CallsPerMinute: defaultCallsPerMinute, CallsPerHour: defaultCallsPerHour},
	}
}

// defaultTenant is a tenant of which nothing is said, below the given settings.
func defaultTenant(s settingsSection) tenantSection {
	return tenantSection{
		AzureAD:    azureADSection{Cloud: azurePublic},
		HTTPConfig: httpSection{EnableHTTP2: true},
		Settings:   s,
	}
}
