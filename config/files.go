package config

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"strings"

	promconfig "github.com/prometheus/common/config"

	"github.com/mde-exporter/mde_exporter/client"
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
		problems = append(problems, t.fileProblems()...)
	}
	return problems
}

// fileProblems are those that the client would meet when it signs in.
func (t *Tenant) fileProblems() Problems {
	credential := t.credential()
	if credential == nil {
		return nil
	}
	err := client.CheckCredential(context.Background(), credential)
	if err == nil {
		return nil
	}
	known := len(t.at.doc.problems)
	at, message := t.at.key("azuread").key(t.azureAD.method()), err.Error()
	for _, key := range []string{"client_secret_file", "certificate_path", "certificate_key_path", "token_file_path"} {
		if text, ok := strings.CutPrefix(message, key+": "); ok {
			at, message = at.key(key), text
			break
		}
	}
	at.problem("%s", message)
	return t.at.doc.problems[known:]
}
