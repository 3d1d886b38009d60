package config

import (
	"regexp"
	"slices"
	"strings"

	"github.com/mde-exporter/mde_exporter/client"
)

// defaultTokenFilePath is where the webhook of Microsoft Entra Workload ID puts the
// token: https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html
const defaultTokenFilePath = "/var/run/secrets/azure/tokens/azure-identity-token" //nolint:gosec // The path of a token, not a token.

// azureAD validates how a tenant is signed in to.
func (v *validator) azureAD(at position, a *azureADSection) {
	if _, ok := cloudNamed(a.Cloud); !ok {
		var names []string
		for _, c := range clouds {
			names = append(names, c.name)
		}
		at.key("cloud").problem("is not one of %s", strings.Join(names, ", "))
	}
	var methods []string
	if m := a.OAuth; m != nil {
		methods = append(methods, "oauth")
		v.oauth(at.key("oauth"), m)
	}
	if m := a.Certificate; m != nil {
		methods = append(methods, "certificate")
		v.certificate(at.key("certificate"), m)
	}
	if m := a.WorkloadIdentity; m != nil {
		methods = append(methods, "workload_identity")
		at := at.key("workload_identity")
		v.app(at, m.TenantID, m.ClientID)
		if m.TokenFilePath == "" {
			m.TokenFilePath = defaultTokenFilePath
		}
		m.TokenFilePath = v.path(at.key("token_file_path"), m.TokenFilePath)
	}
	if m := a.ManagedIdentity; m != nil {
		methods = append(methods, "managed_identity")
		m.endpoint, m.header = v.getenv("IDENTITY_ENDPOINT"), secret(v.getenv("IDENTITY_HEADER"))
		m.imdsEndpoint = v.getenv("IMDS_ENDPOINT")
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
}

func (v *validator) oauth(at position, m *oauthSection) {
	v.app(at, m.TenantID, m.ClientID)
	switch {
	case m.ClientSecret == "" && m.ClientSecretFile == "":
		at.key("client_secret").problem("missing: it or client_secret_file is needed")
	case m.ClientSecret != "" && m.ClientSecretFile != "":
		at.key("client_secret_file").problem("only one of client_secret and client_secret_file can be used")
	}
	m.ClientSecretFile = v.path(at.key("client_secret_file"), m.ClientSecretFile)
}

func (v *validator) certificate(at position, m *certificateSection) {
	v.app(at, m.TenantID, m.ClientID)
	m.CertificatePath = v.required(at.key("certificate_path"), m.CertificatePath)
	m.CertificateKeyPath = v.path(at.key("certificate_key_path"), m.CertificateKeyPath)
	if m.CertificatePassword != "" && m.CertificatePasswordFile != "" {
		at.key("certificate_password_file").problem("only one of certificate_password and certificate_password_file can be used")
	}
	m.CertificatePasswordFile = v.path(at.key("certificate_password_file"), m.CertificatePasswordFile)
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

// appID is what an id may look like. Entra knows which ids there are; one of
// this form can be a part of a URL's path and is no slip of another key.
var appID = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._-]*$`)

// guid is the form of every id that Entra gives.
var guid = regexp.MustCompile(`^(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// exampleID stands in the README for the ids of a reader.
const (
	exampleID      = "00000000-0000-0000-0000-000000000000"
	exampleWarning = "all zeros, as in the example: use your own"
)

// sharedTenants are words of Entra for any tenant, which has no machines.
var sharedTenants = []string{"common", "organizations", "consumers"}

func tenantID(at position, id string) {
	switch {
	case id == "":
		at.problem("missing")
	case !appID.MatchString(id):
		at.problem("is neither a tenant id such as " + exampleID + " nor a domain such as contoso.onmicrosoft.com")
	case slices.Contains(sharedTenants, strings.ToLower(id)):
		at.problem("names no tenant of its own: use the tenant's id")
	case id == exampleID:
		at.warn(exampleWarning)
	}
}

func clientID(at position, id string) {
	switch {
	case !appID.MatchString(id):
		at.problem("is not an application (client) id such as " + exampleID)
	case !guid.MatchString(id):
		at.warn("not a GUID: use the client id that the portal shows")
	case id == exampleID:
		at.warn(exampleWarning)
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

// method is the key of the method that is used, or nothing.
func (a azureADSection) method() string {
	switch {
	case a.OAuth != nil:
		return "oauth"
	case a.Certificate != nil:
		return "certificate"
	case a.WorkloadIdentity != nil:
		return "workload_identity"
	case a.ManagedIdentity != nil:
		return "managed_identity"
	default:
		return ""
	}
}

// credential is the way to sign in, nil where there is none, which validation reports.
func (a azureADSection) credential() client.Credential {
	switch {
	case a.OAuth != nil:
		return client.ClientSecret{
			TenantID: a.OAuth.TenantID, ClientID: a.OAuth.ClientID,
			Secret: string(a.OAuth.ClientSecret), SecretFile: a.OAuth.ClientSecretFile,
		}
	case a.Certificate != nil:
		return client.Certificate{
			TenantID: a.Certificate.TenantID, ClientID: a.Certificate.ClientID,
			CertificatePath: a.Certificate.CertificatePath, KeyPath: a.Certificate.CertificateKeyPath,
			Password: string(a.Certificate.CertificatePassword), PasswordFile: a.Certificate.CertificatePasswordFile,
		}
	case a.WorkloadIdentity != nil:
		return client.WorkloadIdentity{
			TenantID: a.WorkloadIdentity.TenantID, ClientID: a.WorkloadIdentity.ClientID,
			TokenFilePath: a.WorkloadIdentity.TokenFilePath,
		}
	case a.ManagedIdentity != nil:
		return client.ManagedIdentity{
			ClientID: a.ManagedIdentity.ClientID,
			Endpoint: a.ManagedIdentity.endpoint, Header: string(a.ManagedIdentity.header), IMDSEndpoint: a.ManagedIdentity.imdsEndpoint,
		}
	default:
		return nil
	}
}
