package config

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"strings"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/internal/readfile"
)

// tls reports mistakes in the certificates of a tls_config, inline or in files. It does
// not repeat errors of libraries, some of which quote the key.
func (v *validator) tls(at position, t tlsSection) {
	cert, key := t.Cert != "" || t.CertFile != "", t.Key != "" || t.KeyFile != ""
	switch {
	case t.CA != "" && t.CAFile != "":
		at.problem("at most one of ca and ca_file must be configured")
		return
	case t.Cert != "" && t.CertFile != "":
		at.problem("at most one of cert and cert_file must be configured")
		return
	case t.Key != "" && t.KeyFile != "":
		at.problem("at most one of key and key_file must be configured")
		return
	case cert && !key:
		at.problem("exactly one of key or key_file must be configured when a client certificate is configured")
		return
	case key && !cert:
		at.problem("exactly one of cert or cert_file must be configured when a client key is configured")
		return
	case t.MinVersion != 0 && t.MaxVersion != 0 && t.MaxVersion < t.MinVersion:
		at.key("max_version").problem("lower than min_version")
		return
	}
	if t.CA != "" || t.CAFile != "" {
		if at, ca := v.pemOf(at, "ca", t.CA, t.CAFile); ca != nil && !containsCertificate(ca) {
			at.problem("contains no PEM certificate")
		}
	}
	if cert {
		v.checkKeyPair(at, t)
	}
}

// checkKeyPair reports a client certificate that does not match its key.
func (v *validator) checkKeyPair(at position, t tlsSection) {
	certAt, cert := v.pemOf(at, "cert", t.Cert, t.CertFile)
	keyAt, key := v.pemOf(at, "key", string(t.Key), t.KeyFile)
	if cert == nil || key == nil {
		return
	}
	const mismatch = "tls: private key does not match public key"
	switch _, err := tls.X509KeyPair(cert, key); {
	case err == nil:
	case !containsCertificate(cert):
		certAt.problem("contains no PEM certificate")
	case err.Error() == mismatch:
		certAt.problem("certificate and key do not match: " + mismatch)
	default:
		keyAt.problem("contains no usable PEM private key")
	}
}

func containsCertificate(pem []byte) bool { return x509.NewCertPool().AppendCertsFromPEM(pem) }

// pemOf returns the value of key, or the content of the file under key_file, and its
// position. It returns nil if the file cannot be read.
func (v *validator) pemOf(at position, key, inline, file string) (position, []byte) {
	if inline != "" {
		return at.key(key), []byte(inline)
	}
	at = at.key(key + "_file")
	return at, v.content(at, file)
}

// content returns the content of a file. It reports a file that cannot be read or is
// empty.
func (v *validator) content(at position, path string) []byte {
	data, err := readfile.Text(context.Background(), path, maxConfigBytes)
	if err != nil {
		at.problem("%s: %s", path, readfile.Reason(err))
		return nil
	}
	if len(bytes.TrimSpace(data)) == 0 {
		at.problem("%s: empty", path)
		return nil
	}
	return data
}

// credentialFiles reports the error that the client would have when signing in.
func (a *azureADSection) credentialFiles(at position) {
	key, m := a.method()
	err := client.CheckCredential(context.Background(), m.credential())
	if err == nil {
		return
	}
	at, message := at.key(key), err.Error()
	for _, key := range []string{"client_secret_file", "certificate_path", "certificate_key_path", "certificate_password", "certificate_password_file", "token_file_path"} {
		if text, ok := strings.CutPrefix(message, key+": "); ok {
			at, message = at.key(key), text
			break
		}
	}
	at.problem("%s", message)
}
