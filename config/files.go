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

// tls reports what is wrong with the certificates of a tls_config, in the file
// itself or in those it names. Without them no connection could be made. No
// error of a library is repeated: some quote the key.
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
		if at, ca := v.material(at, "ca", t.CA, t.CAFile); ca != nil && !holdsCertificate(ca) {
			at.problem("holds no certificate in PEM form")
		}
	}
	if cert {
		v.checkKeyPair(at, t)
	}
}

// checkKeyPair reports a client certificate that does not go with its key.
func (v *validator) checkKeyPair(at position, t tlsSection) {
	certAt, cert := v.material(at, "cert", t.Cert, t.CertFile)
	keyAt, key := v.material(at, "key", string(t.Key), t.KeyFile)
	if cert == nil || key == nil {
		return
	}
	const mismatch = "tls: private key does not match public key"
	switch _, err := tls.X509KeyPair(cert, key); {
	case err == nil:
	case !holdsCertificate(cert):
		certAt.problem("holds no certificate in PEM form")
	case err.Error() == mismatch:
		certAt.problem("not a certificate with its key: " + mismatch)
	default:
		keyAt.problem("holds no private key in PEM form that can be used")
	}
}

func holdsCertificate(pem []byte) bool { return x509.NewCertPool().AppendCertsFromPEM(pem) }

// material returns what stands under key, or in the file under key_file, and
// the position that names it; nothing where the file cannot be read.
func (v *validator) material(at position, key, inline, file string) (position, []byte) {
	if inline != "" {
		return at.key(key), []byte(inline)
	}
	at = at.key(key + "_file")
	return at, v.content(at, file)
}

// content reads a file that the configuration names, and reports why it cannot.
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

// credentialFiles reports what the client would meet when it signs in.
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
