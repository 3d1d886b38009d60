package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"reflect"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

// Tenant is the validated configuration of one tenant. It prints as YAML with secrets
// masked.
type Tenant struct{ tenantSection }

// SameClient reports whether two tenants can share a client: all their settings, except
// those of collectors, are equal.
func (t *Tenant) SameClient(o *Tenant) bool {
	a, b := t.tenantSection, o.tenantSection
	a.Collectors, b.Collectors = Collectors{}, Collectors{}
	return reflect.DeepEqual(a, b)
}

// Equal reports whether two tenants have equal settings. It does not compare the
// content of files.
func (t *Tenant) Equal(o *Tenant) bool { return reflect.DeepEqual(t.tenantSection, o.tenantSection) }

// ClientOptions returns the options of the tenant's client with a new transport. The
// transport reads TLS files again when they change and does not request compression.
// The error is about a TLS file that changed since validation; if the file cannot be
// read, the error names it.
func (t *Tenant) ClientOptions() (client.Options, error) {
	transport, err := t.HTTPConfig.transport()
	if unread, ok := errors.AsType[*fs.PathError](err); ok {
		return client.Options{}, fmt.Errorf("tenant %s: http_config.tls_config: %w", t.Name, unread)
	}
	if err != nil {
		// Some errors quote the content of a file.
		return client.Options{}, fmt.Errorf("tenant %s: http_config.tls_config: a certificate or its key cannot be used: run --config.check", t.Name)
	}
	of, _ := cloudNamed(t.AzureAD.Cloud)
	_, method := t.AzureAD.method()
	o := client.Options{
		GraphScope:     of.graphScopeOf(t.Endpoints.GraphURL),
		APIScope:       t.Endpoints.APIScope,
		Credential:     method.credential(),
		Secrets:        t.HTTPConfig.secrets(),
		Transport:      transport,
		RequestTimeout: time.Duration(t.RequestTimeout),
		Quota:          client.Limits(t.Quota),
	}
	for _, endpoint := range []struct {
		to   **url.URL
		text string
	}{{&o.LoginURL, t.Endpoints.LoginURL}, {&o.GraphURL, t.Endpoints.GraphURL}, {&o.APIURL, t.Endpoints.APIURL}} {
		if *endpoint.to, err = url.Parse(endpoint.text); err != nil {
			return client.Options{}, fmt.Errorf("tenant %s: endpoints: %w", t.Name, err)
		}
	}
	return o, nil
}

// String returns the tenant as YAML with secrets masked.
func (t Tenant) String() string { return yamlText(t.tenantSection) }

// Format prints String for every verb. Without it some verbs would print the fields
// with secrets.
func (t Tenant) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// LogValue returns the tenant's name.
func (t Tenant) LogValue() slog.Value { return slog.StringValue(t.Name) }

// MarshalText returns String, for encoders such as JSON's that would print fields.
func (t Tenant) MarshalText() ([]byte, error) { return []byte(t.String()), nil }
