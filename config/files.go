package config

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"time"

	promconfig "github.com/prometheus/common/config"
)

// tls notes what is wrong with the certificates of a tls_config, in the file
// itself or in those it names. Without them no connection could be made.
func (v *validator) tls(at position, t tlsSection) {
	c := promconfig.TLSConfig(t)
	if err := c.Validate(); err != nil {
		at.problem("%s", err)
		return
	}
	if t.MinVersion != 0 && t.MaxVersion != 0 && t.MaxVersion < t.MinVersion {
		at.key("max_version").problem("lower than min_version")
		return
	}
	if t.CA != "" || t.CAFile != "" {
		at, ca := at.material("ca", t.CA, t.CAFile)
		if ca != nil && !x509.NewCertPool().AppendCertsFromPEM(ca) {
			at.problem("holds no certificate in PEM form")
		}
	}
	if t.Cert == "" && t.CertFile == "" {
		return
	}
	certAt, cert := at.material("cert", t.Cert, t.CertFile)
	_, key := at.material("key", string(t.Key), t.KeyFile)
	if cert == nil || key == nil {
		return
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		certAt.problem("not a certificate with its key: %s", err)
	}
}

// material returns what stands under key, or in the file under key_file, and
// the position that names it; nothing where the file cannot be read.
func (p position) material(key, inline, file string) (position, []byte) {
	if inline != "" {
		return p.key(key), []byte(inline)
	}
	at := p.key(key + "_file")
	return at, at.content(file)
}

// content reads a file that the configuration names, and notes why it cannot.
func (p position) content(path string) []byte {
	data, err := readList(path)
	if err != nil {
		p.problem("%s: %s", path, reason(err))
		return nil
	}
	if len(bytes.TrimSpace(data)) == 0 {
		p.problem("%s: empty", path)
		return nil
	}
	return data
}

// fileProblems are the mistakes in the credential files of all tenants.
func (c *Config) fileProblems() Problems {
	var problems Problems
	for _, t := range c.Tenants {
		doc := &document{file: t.at.doc.file, lines: t.at.doc.lines}
		at := t.at
		at.doc = doc
		t.azureAD.checkFiles(at.key("azuread"))
		problems = append(problems, doc.problems...)
	}
	return problems
}

// checkFiles notes what is wrong with the files of a credential.
func (a azureADSection) checkFiles(at position) {
	if a.OAuth != nil && a.OAuth.ClientSecretFile != "" {
		at.key("oauth").key("client_secret_file").content(a.OAuth.ClientSecretFile)
	}
	if a.WorkloadIdentity != nil && a.WorkloadIdentity.TokenFilePath != "" {
		at.key("workload_identity").key("token_file_path").content(a.WorkloadIdentity.TokenFilePath)
	}
	if a.Certificate != nil && a.Certificate.CertificatePath != "" {
		a.Certificate.checkFiles(at.key("certificate"))
	}
}

// checkFiles notes what would keep the certificate from signing in.
func (c *certificateSection) checkFiles(at position) {
	certAt := at.key("certificate_path")
	cert := certAt.content(c.CertificatePath)
	key := cert
	if c.CertificateKeyPath != "" {
		key = at.key("certificate_key_path").content(c.CertificateKeyPath)
	}
	if cert == nil || key == nil {
		return
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		certAt.problem("%s: not a certificate with its private key: %s", c.CertificatePath, err)
		return
	}
	if _, ok := pair.PrivateKey.(*rsa.PrivateKey); !ok {
		certAt.problem("%s: not an RSA key, and Entra accepts no other", c.CertificatePath)
	}
	if end := pair.Leaf.NotAfter; time.Now().After(end) {
		certAt.problem("%s: expired on %s", c.CertificatePath, end.UTC().Format(time.DateOnly))
	}
}
