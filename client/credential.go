package client

// Credential is how the exporter proves to the sign-in host that it is the app
// registration a tenant's administrator created. It is one of ClientSecret,
// Certificate, WorkloadIdentity and ManagedIdentity. Files are read again for
// every token request, so that rotating one needs no restart.
type Credential interface {
	credential()
}

// ClientSecret is a password of an app registration; exactly one of Secret and
// SecretFile is set.
type ClientSecret struct {
	TenantID   string
	ClientID   string
	Secret     string
	SecretFile string
}

// Certificate is a client certificate of an app registration.
type Certificate struct {
	TenantID string
	ClientID string
	// CertificatePath is a PEM file with the certificate and, unless KeyPath is
	// set, its private key.
	CertificatePath string
	KeyPath         string
}

// WorkloadIdentity is a federated token, such as Kubernetes projects into a pod.
type WorkloadIdentity struct {
	TenantID      string
	ClientID      string
	TokenFilePath string
}

// ManagedIdentity is the identity of the Azure machine or app service this
// process runs on.
type ManagedIdentity struct {
	// ClientID names a user-assigned identity; empty means the system-assigned one.
	ClientID string
}

func (ClientSecret) credential()     {}
func (Certificate) credential()      {}
func (WorkloadIdentity) credential() {}
func (ManagedIdentity) credential()  {}
