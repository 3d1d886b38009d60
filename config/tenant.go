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

// Tenant is the validated configuration of one tenant: its settings have the keys
// of the file. It prints as YAML with its secrets masked.
type Tenant struct{ tenantSection }

// SameClient reports whether two tenants sign in as the same app, to the same
// hosts, in the same way and with the same quota, so that the client of one can
// go on serving the other. Whatever is not of a collector counts.
func (t *Tenant) SameClient(o *Tenant) bool {
	a, b := t.tenantSection, o.tenantSection
	a.Collectors, b.Collectors = Collectors{}, Collectors{}
	return reflect.DeepEqual(a, b)
}

// Equal reports whether two tenants have the same settings. It does not look into
// files.
func (t *Tenant) Equal(o *Tenant) bool { return reflect.DeepEqual(t.tenantSection, o.tenantSection) }

// ClientOptions are the options of the tenant's client, with a transport of its
// own. The transport reads its TLS files again when they change; it does not
// ask for compressed answers by itself. The error is about a TLS file that
// changed since it was checked, and names it where it cannot be read.
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

// String is the tenant as YAML, with its secrets masked.
func (t Tenant) String() string { return yamlText(t.tenantSection) }

// Format prints String, whatever the verb: fmt would print fields by itself for
// some, and knows nothing of secrets.
func (t Tenant) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// LogValue is the tenant's name.
func (t Tenant) LogValue() slog.Value { return slog.StringValue(t.Name) }

// MarshalText is String, for encoders that print fields by themselves, as JSON's does.
func (t Tenant) MarshalText() ([]byte, error) { return []byte(t.String()), nil }
