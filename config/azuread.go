package config

import (
	"cmp"
	"iter"
	"regexp"
	"slices"
	"strings"

	"github.com/mde-exporter/mde_exporter/client"
)

// defaultTokenFilePath is where the webhook of Microsoft Entra Workload ID mounts the
// token:
// https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html
const defaultTokenFilePath = "/var/run/secrets/azure/tokens/azure-identity-token" //nolint:gosec // The path of a token, not a token.

// signInMethod is one of the sections that configure a credential.
type signInMethod interface {
	validate(v *validator, at position)
	tenantID() string
	credential() client.Credential
}

// methods yields the configured methods by key.
func (a *azureADSection) methods() iter.Seq2[string, signInMethod] {
	return func(yield func(string, signInMethod) bool) {
		_ = (a.OAuth == nil || yield("oauth", a.OAuth)) &&
			(a.Certificate == nil || yield("certificate", a.Certificate)) &&
			(a.WorkloadIdentity == nil || yield("workload_identity", a.WorkloadIdentity)) &&
			(a.ManagedIdentity == nil || yield("managed_identity", a.ManagedIdentity))
	}
}

// method returns the configured method. Validation ensures that there is exactly one.
func (a *azureADSection) method() (key string, m signInMethod) {
	for key, m := range a.methods() {
		return key, m
	}
	return "", &managedIdentitySection{}
}

// inherited returns a copy of the global section, into which the tenant's keys are
// decoded. It omits what the tenant replaces as a whole: the method, or the secret in
// any of its forms.
func (a azureADSection) inherited(at position) azureADSection {
	other := at.sets("oauth", "certificate", "workload_identity", "managed_identity")
	a.OAuth = inheritedMethod(a.OAuth, other, at.key("oauth"))
	a.Certificate = inheritedMethod(a.Certificate, other, at.key("certificate"))
	a.WorkloadIdentity = inheritedMethod(a.WorkloadIdentity, other, at.key("workload_identity"))
	a.ManagedIdentity = inheritedMethod(a.ManagedIdentity, other, at.key("managed_identity"))
	if a.OAuth != nil && at.key("oauth").sets("client_secret", "client_secret_file") {
		a.OAuth.ClientSecret, a.OAuth.ClientSecretFile, a.OAuth.ClientSecretExpires = "", "", ""
	}
	if a.Certificate != nil && at.key("certificate").sets("certificate_password", "certificate_password_file") {
		a.Certificate.CertificatePassword, a.Certificate.CertificatePasswordFile = "", ""
	}
	return a
}

// inheritedMethod returns a copy of the global method. It returns nil if there is none,
// or if the tenant sets another method and not this one.
func inheritedMethod[T any](global *T, others bool, at position) *T {
	if global == nil || others && !at.set() {
		return nil
	}
	method := *global
	return &method
}

// absolute makes the section's paths absolute.
func (v *validator) absolute(at position, a *azureADSection) {
	if m := a.OAuth; m != nil {
		m.ClientSecretFile = v.path(at.key("oauth.client_secret_file"), m.ClientSecretFile)
	}
	if m := a.Certificate; m != nil {
		at := at.key("certificate")
		m.CertificatePath = v.path(at.key("certificate_path"), m.CertificatePath)
		m.CertificateKeyPath = v.path(at.key("certificate_key_path"), m.CertificateKeyPath)
		m.CertificatePasswordFile = v.path(at.key("certificate_password_file"), m.CertificatePasswordFile)
	}
	if m := a.WorkloadIdentity; m != nil {
		m.TokenFilePath = v.path(at.key("workload_identity.token_file_path"), m.TokenFilePath)
	}
}

// azureAD validates the section.
func (v *validator) azureAD(at position, a *azureADSection) {
	if _, ok := cloudNamed(a.Cloud); !ok {
		var names []string
		for _, c := range clouds {
			names = append(names, c.name)
		}
		at.key("cloud").problem("is not one of %s", strings.Join(names, ", "))
	}
	v.absolute(at, a)
	var keys []string
	for key, m := range a.methods() {
		keys = append(keys, key)
		m.validate(v, at.key(key))
	}
	switch {
	case len(keys) > 1:
		at.problem("only one of %s can be used", strings.Join(keys, ", "))
	case len(keys) == 0 && !at.origin().hasProblem():
		at.problem("missing: one of oauth, certificate, workload_identity and managed_identity is needed")
	}
}

func (m *oauthSection) validate(_ *validator, at position) {
	m.appSection.validate(at)
	switch {
	case at.key("client_secret_file").origin().hasProblem():
	case m.ClientSecret == "" && m.ClientSecretFile == "":
		at.key("client_secret").problem("missing: set it or client_secret_file")
	case m.ClientSecret != "" && m.ClientSecretFile != "":
		at.key("client_secret_file").problem("only one of client_secret and client_secret_file can be used")
	}
}

func (m *oauthSection) credential() client.Credential {
	return client.ClientSecret{TenantID: m.TenantID, ClientID: m.ClientID, Secret: string(m.ClientSecret), SecretFile: m.ClientSecretFile, Expires: m.ClientSecretExpires.time()}
}

func (m *certificateSection) validate(_ *validator, at position) {
	m.appSection.validate(at)
	if m.CertificatePath == "" {
		at.key("certificate_path").problem("missing")
	}
	if m.CertificatePassword != "" && m.CertificatePasswordFile != "" {
		at.key("certificate_password_file").problem("only one of certificate_password and certificate_password_file can be used")
	}
}

func (m *certificateSection) credential() client.Credential {
	return client.Certificate{
		TenantID: m.TenantID, ClientID: m.ClientID, CertificatePath: m.CertificatePath, KeyPath: m.CertificateKeyPath,
		Password: string(m.CertificatePassword), PasswordFile: m.CertificatePasswordFile,
	}
}

func (m *workloadIdentitySection) validate(v *validator, at position) {
	m.appSection.validate(at)
	m.TokenFilePath = cmp.Or(m.TokenFilePath, v.path(at, defaultTokenFilePath))
}

func (m *workloadIdentitySection) credential() client.Credential {
	return client.WorkloadIdentity{TenantID: m.TenantID, ClientID: m.ClientID, TokenFilePath: m.TokenFilePath}
}

func (m *managedIdentitySection) validate(v *validator, at position) {
	m.endpoint, m.header = v.getenv("IDENTITY_ENDPOINT"), secret(v.getenv("IDENTITY_HEADER"))
	m.imdsEndpoint = v.getenv("IMDS_ENDPOINT")
	if m.ClientID != "" {
		clientID(at.key("client_id"), m.ClientID)
	}
}

func (*managedIdentitySection) tenantID() string { return "" }

func (m *managedIdentitySection) credential() client.Credential {
	return client.ManagedIdentity{ClientID: m.ClientID, Endpoint: m.endpoint, Header: string(m.header), IMDSEndpoint: m.imdsEndpoint}
}

// validate checks the tenant and client id of an app registration.
func (a *appSection) validate(at position) {
	tenantID(at.key("tenant_id"), a.TenantID)
	if a.ClientID == "" {
		at.key("client_id").problem("missing")
		return
	}
	clientID(at.key("client_id"), a.ClientID)
}

func (a *appSection) tenantID() string { return a.TenantID }

// appID matches every string that may be a tenant or client id. A match is safe in a
// URL path. Only Entra knows which ids exist.
var appID = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._-]*$`)

// guid matches the format of the ids that Entra generates.
var guid = regexp.MustCompile(`^(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// exampleID is the id in the README's examples.
const (
	exampleID      = "00000000-0000-0000-0000-000000000000"
	exampleWarning = "all zeros, as in the example: use your own"
)

// sharedTenants are Entra's names for any tenant.
var sharedTenants = []string{"common", "organizations", "consumers"}

func tenantID(at position, id string) {
	switch {
	case id == "":
		at.problem("missing")
	case !appID.MatchString(id):
		at.problem("is neither a tenant id such as " + exampleID + " nor a domain such as contoso.onmicrosoft.com")
	case slices.Contains(sharedTenants, strings.ToLower(id)):
		at.problem("is not a single tenant: use the tenant's id")
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
