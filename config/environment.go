package config

import (
	"cmp"
	"errors"
	"slices"
)

// The environment variables of a single tenant, named as in the Azure SDKs.
const (
	envTenantID            = "AZURE_TENANT_ID"
	envTenantName          = "AZURE_TENANT_NAME" // Specific to this exporter.
	envClientID            = "AZURE_CLIENT_ID"
	envClientSecret        = "AZURE_CLIENT_SECRET"
	envCertificatePath     = "AZURE_CLIENT_CERTIFICATE_PATH"
	envCertificatePassword = "AZURE_CLIENT_CERTIFICATE_PASSWORD"
	envTokenFile           = "AZURE_FEDERATED_TOKEN_FILE"
	envAuthorityHost       = "AZURE_AUTHORITY_HOST"
)

// ErrNoEnvironment means that no variable is set. It is not a mistake if tenants come
// from another source.
var ErrNoEnvironment = errors.New("no tenant in the environment: set " + envTenantID + ", " + envClientID +
	" and one of " + envClientSecret + ", " + envCertificatePath + " and " + envTokenFile)

// FromEnvironment returns a configuration with the one tenant of the environment. Flags
// may override the endpoints. If several credentials are set, it uses the first of
// secret, certificate and federated token, as the Azure SDKs do. The tenant's name is
// that of the environment or else the tenant id. The proxy variables apply.
//
// The error is ErrNoEnvironment if no variable is set, otherwise Problems.
func FromEnvironment(getenv func(string) string, e Endpoints, o Overrides) (*Config, error) {
	tenant, app := getenv(envTenantID), getenv(envClientID)
	clientSecret, certificate, token := getenv(envClientSecret), getenv(envCertificatePath), getenv(envTokenFile)
	if cmp.Or(tenant, app, clientSecret, certificate, token) == "" {
		return nil, ErrNoEnvironment
	}

	names := map[string]string{
		"name":                envTenantName,
		"endpoints.login_url": "--login-url",
		"endpoints.graph_url": "--graph-url",
		"endpoints.api_url":   "--api-url",
	}
	if e.LoginURL == "" {
		e.LoginURL = getenv(envAuthorityHost)
		names["endpoints.login_url"] = envAuthorityHost
	}

	v := newValidator(o)
	s := newTenant(v.settings())
	s.Name = getenv(envTenantName)
	s.AzureAD.Cloud = cloudOf(e)
	s.Endpoints = e
	s.HTTPConfig.ProxyFromEnvironment = true

	doc := &document{}
	at := position{doc: doc, names: names}
	registration := appSection{tenant, app}
	switch {
	case clientSecret != "":
		s.AzureAD.OAuth = &oauthSection{appSection: registration, ClientSecret: secret(clientSecret)}
	case certificate != "":
		s.AzureAD.Certificate = &certificateSection{
			appSection: registration, CertificatePath: certificate, CertificatePassword: secret(getenv(envCertificatePassword)),
		}
		names["azuread.certificate.certificate_path"] = envCertificatePath
		names["azuread.certificate.certificate_password"] = envCertificatePassword
	case token != "":
		s.AzureAD.WorkloadIdentity = &workloadIdentitySection{appSection: registration, TokenFilePath: token}
		names["azuread.workload_identity.token_file_path"] = envTokenFile
	default:
		s.AzureAD.OAuth = &oauthSection{appSection: registration}
		names["azuread.oauth.client_secret"] = envClientSecret
		at.key("azuread.oauth.client_secret").problem("missing: set it, %s or %s", envCertificatePath, envTokenFile)
	}
	method, _ := s.AzureAD.method()
	names["azuread."+method+".tenant_id"] = envTenantID
	names["azuread."+method+".client_id"] = envClientID

	t := v.tenant(at, s)
	if problems := slices.Concat(doc.problems, v.problems); len(problems) > 0 {
		return nil, problems
	}
	return &Config{Tenants: []*Tenant{t}}, nil
}
