package config

import (
	"errors"
	"slices"
)

// The variables of the environment's tenant, named as in Azure's own libraries.
const (
	envTenantID            = "AZURE_TENANT_ID"
	envTenantName          = "AZURE_TENANT_NAME" // This exporter's own.
	envClientID            = "AZURE_CLIENT_ID"
	envClientSecret        = "AZURE_CLIENT_SECRET"
	envCertificatePath     = "AZURE_CLIENT_CERTIFICATE_PATH"
	envCertificatePassword = "AZURE_CLIENT_CERTIFICATE_PASSWORD"
	envTokenFile           = "AZURE_FEDERATED_TOKEN_FILE"
	envAuthorityHost       = "AZURE_AUTHORITY_HOST"
)

// ErrNoEnvironment means that no variable names a tenant, which is no mistake
// where there is another source of tenants.
var ErrNoEnvironment = errors.New("no tenant in the environment: set " + envTenantID + ", " + envClientID +
	" and one of " + envClientSecret + ", " + envCertificatePath + " and " + envTokenFile)

// FromEnvironment is the configuration of one tenant, whose app registration
// the environment names, at endpoints that flags may override. Of several ways to sign in the first of secret,
// certificate and federated token is used, as Azure's own libraries choose. Its
// label is the name that the environment gives it, or else the tenant id, and a proxy that the environment names is used.
//
// The error is ErrNoEnvironment where no variable is set, and Problems otherwise.
func FromEnvironment(getenv func(string) string, e Endpoints, o Overrides) (*Config, error) {
	tenant, app := getenv(envTenantID), getenv(envClientID)
	clientSecret, certificate, token := getenv(envClientSecret), getenv(envCertificatePath), getenv(envTokenFile)
	if tenant == "" && app == "" && clientSecret == "" && certificate == "" && token == "" {
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
		at.key("azuread.oauth.client_secret").problem("missing: it, %s or %s is needed", envCertificatePath, envTokenFile)
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
