package config

import (
	"errors"
	"strings"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// The types in this file are the format of the configuration file. They first contain
// the file's values and, after validate.go, the values in force.

// fileSection is the whole file.
type fileSection struct {
	Global      globalSection   `yaml:"global"`
	Tenants     []tenantSection `yaml:"tenants"`
	TenantFiles []string        `yaml:"tenant_files"`
}

// globalSection holds the settings that every tenant inherits.
type globalSection struct {
	AzureAD    azureADSection `yaml:"azuread"`
	HTTPConfig httpSection    `yaml:"http_config"`

	settingsSection `yaml:",inline"`
}

// tenantSection holds the settings of a tenant.
type tenantSection struct {
	Name       string         `yaml:"name"`
	AzureAD    azureADSection `yaml:"azuread"`
	Endpoints  Endpoints      `yaml:"endpoints"`
	HTTPConfig httpSection    `yaml:"http_config"`

	settingsSection `yaml:",inline"`
}

// settingsSection holds the settings of both global and tenants.
type settingsSection struct {
	RequestTimeout model.Duration `yaml:"request_timeout"`
	Collectors     `yaml:",inline"`
	Quota          quotaSection `yaml:"quota"`
}

type quotaSection struct {
	CallsPerMinute int `yaml:"calls_per_minute"`
	CallsPerHour   int `yaml:"calls_per_hour"`
}

// azureADSection must have exactly one method.
type azureADSection struct {
	Cloud            string                   `yaml:"cloud"`
	OAuth            *oauthSection            `yaml:"oauth,omitempty"`
	Certificate      *certificateSection      `yaml:"certificate,omitempty"`
	WorkloadIdentity *workloadIdentitySection `yaml:"workload_identity,omitempty"`
	ManagedIdentity  *managedIdentitySection  `yaml:"managed_identity,omitempty"`
}

// appSection identifies an app registration.
type appSection struct {
	TenantID string `yaml:"tenant_id"`
	ClientID string `yaml:"client_id"`
}

type oauthSection struct {
	appSection          `yaml:",inline"`
	ClientSecret        secret `yaml:"client_secret,omitempty"`
	ClientSecretFile    string `yaml:"client_secret_file,omitempty"`
	ClientSecretExpires date   `yaml:"client_secret_expires,omitempty"`
}

// date is the file's text of a date or an RFC 3339 time.
type date string

// UnmarshalYAML returns an error for any other text.
func (d *date) UnmarshalYAML(n *yaml.Node) error {
	*d = date(n.Value)
	if d.time().IsZero() {
		return errors.New("not a date")
	}
	return nil
}

// time returns the date as a time, midnight UTC if the text has no time. It returns the
// zero time for an empty date.
func (d date) time() time.Time {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, string(d)); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

type certificateSection struct {
	appSection              `yaml:",inline"`
	CertificatePath         string `yaml:"certificate_path"`
	CertificateKeyPath      string `yaml:"certificate_key_path,omitempty"`
	CertificatePassword     secret `yaml:"certificate_password,omitempty"`
	CertificatePasswordFile string `yaml:"certificate_password_file,omitempty"`
}

type workloadIdentitySection struct {
	appSection    `yaml:",inline"`
	TokenFilePath string `yaml:"token_file_path"`
}

type managedIdentitySection struct {
	ClientID string `yaml:"client_id,omitempty"`

	// endpoint, header and imdsEndpoint come from the platform's environment variables.
	endpoint     string
	header       secret
	imdsEndpoint string
}

// Endpoints override the cloud's endpoints. An empty value means the cloud's.
type Endpoints struct {
	LoginURL string `yaml:"login_url"`
	GraphURL string `yaml:"graph_url"`
	APIURL   string `yaml:"api_url"`
	APIScope string `yaml:"api_scope"`
}

// httpSection is the applicable part of Prometheus's HTTP client configuration. It
// excludes authentication, which azuread configures, and redirects, which are never
// followed.
type httpSection struct {
	ProxyURL             secretURL  `yaml:"proxy_url,omitempty"`
	NoProxy              string     `yaml:"no_proxy,omitempty"`
	ProxyFromEnvironment bool       `yaml:"proxy_from_environment,omitempty"`
	TLSConfig            tlsSection `yaml:"tls_config"`
	EnableHTTP2          bool       `yaml:"enable_http2"`
}

// tlsSection has Prometheus's keys but not Prometheus's decoding, whose errors have no
// line.
type tlsSection promconfig.TLSConfig

// MarshalYAML also masks certificates that contain a private key.
func (t tlsSection) MarshalYAML() (any, error) {
	for _, pem := range []*string{&t.CA, &t.Cert} {
		if strings.Contains(*pem, "PRIVATE KEY") {
			*pem = masked
		}
	}
	return promconfig.TLSConfig(t), nil
}

// settings returns the default values.
func (v *validator) settings() globalSection {
	s := globalSection{
		AzureAD:    azureADSection{Cloud: azurePublic},
		HTTPConfig: httpSection{EnableHTTP2: true},
		settingsSection: settingsSection{
			RequestTimeout: model.Duration(time.Minute),
			Quota:          quotaSection{CallsPerMinute: defaultCallsPerMinute, CallsPerHour: defaultCallsPerHour},
		},
	}
	for _, c := range s.All() {
		c.Defaults()
	}
	v.problems = append(v.problems, s.watch(v.watched)...)
	return s
}

// newTenant returns a tenant with the global settings.
func newTenant(global globalSection) tenantSection {
	return tenantSection{AzureAD: global.AzureAD, HTTPConfig: global.HTTPConfig, settingsSection: global.settingsSection}
}
