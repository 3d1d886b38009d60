package client

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"iter"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/mde-exporter/mde_exporter/internal/readfile"
)

// read reads the certificate and its key: from a PKCS#12 file, from a PEM file, or
// from a PEM file each.
func (c Certificate) read(ctx context.Context, s signIn) (keyPair, error) {
	content, err := readCredentialBytes(ctx, "certificate_path", c.CertificatePath)
	if err != nil {
		return keyPair{}, err
	}
	if formatOf(content) == pkcs12Format {
		return c.readPKCS12(ctx, s, content)
	}
	text, err := pemText(content)
	if err != nil {
		return keyPair{}, fmt.Errorf("certificate_path: %s: %w", c.CertificatePath, err)
	}
	certificates, err := parseCertificates(text)
	if err != nil {
		return keyPair{}, fmt.Errorf("certificate_path: %s: %w", c.CertificatePath, err)
	}
	keyName, keyPath := "certificate_path", c.CertificatePath
	if c.KeyPath != "" {
		keyName, keyPath = "certificate_key_path", c.KeyPath
		if content, err = readCredentialBytes(ctx, keyName, keyPath); err != nil {
			return keyPair{}, err
		}
		if text, err = pemText(content); err != nil {
			return keyPair{}, fmt.Errorf("%s: %s: %w", keyName, keyPath, err)
		}
	}
	key, err := parsePrivateKey(text)
	if err != nil {
		return keyPair{}, fmt.Errorf("%s: %s: %w", keyName, keyPath, err)
	}
	return c.pair(key, certificates, keyPath)
}

// pair finds the certificate of the key, which need not be the first of a chain.
func (c Certificate) pair(key *rsa.PrivateKey, certificates []*x509.Certificate, keyPath string) (keyPair, error) {
	for _, certificate := range certificates {
		if key.PublicKey.Equal(certificate.PublicKey) {
			return keyPair{leaf: certificate, key: key}, nil
		}
	}
	return keyPair{}, fmt.Errorf("certificate_path: no certificate in %s belongs to the private key in %s", c.CertificatePath, keyPath)
}

// readPKCS12 reads the content of a PKCS#12 file, which holds the key as well.
func (c Certificate) readPKCS12(ctx context.Context, s signIn, content []byte) (keyPair, error) {
	if c.KeyPath != "" {
		return keyPair{}, fmt.Errorf("certificate_key_path: the PKCS#12 file %s holds the private key: remove certificate_key_path", c.CertificatePath)
	}
	password, passwordKey := c.Password, "certificate_password"
	if c.PasswordFile != "" {
		passwordKey = "certificate_password_file"
		var err error
		if password, err = readPassword(ctx, passwordKey, c.PasswordFile); err != nil {
			return keyPair{}, err
		}
	}
	s.learn("certificate password", password)

	key, leaf, chain, err := pkcs12.DecodeChain(content, password)
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword), errors.Is(err, pkcs12.ErrDecryption):
		if password == "" {
			return keyPair{}, fmt.Errorf("certificate_path: %s: protected by a password: set certificate_password or certificate_password_file", c.CertificatePath)
		}
		return keyPair{}, fmt.Errorf("%s: wrong password for the PKCS#12 file %s", passwordKey, c.CertificatePath)
	case err != nil:
		return keyPair{}, fmt.Errorf("certificate_path: %s: cannot read the PKCS#12 file (%w): convert it with openssl pkcs12 -in FILE -noenc -out app.pem", c.CertificatePath, err)
	}
	rsaKey, ok := key.(*rsa.PrivateKey)
	if !ok {
		return keyPair{}, fmt.Errorf("certificate_path: %s: %w", c.CertificatePath, errNotRSA)
	}
	return c.pair(rsaKey, append([]*x509.Certificate{leaf}, chain...), c.CertificatePath)
}

// A fileFormat is what a certificate or key file consists of.
type fileFormat int

const (
	textFormat   fileFormat = iota // PEM, or something else that is not binary.
	pkcs12Format                   // A certificate and its key, usually encrypted.
	pkcs7Format                    // Certificates without a key.
	certificateDER
	privateKeyDER
)

// pkcs12BER begins a PKCS#12 file of indefinite length: a sequence, and version 3.
var pkcs12BER = []byte{0x30, 0x80, 0x02, 0x01, 0x03}

// formatOf tells binary formats apart by the first element of their ASN.1 sequence.
func formatOf(content []byte) fileFormat {
	if bytes.HasPrefix(content, pkcs12BER) {
		return pkcs12Format
	}
	var sequence, first asn1.RawValue
	if _, err := asn1.Unmarshal(content, &sequence); err != nil || sequence.Tag != asn1.TagSequence || !sequence.IsCompound {
		return textFormat
	}
	if _, err := asn1.Unmarshal(sequence.Bytes, &first); err != nil || first.Class != asn1.ClassUniversal {
		return textFormat
	}
	switch first.Tag {
	case asn1.TagInteger: // The version.
		if len(first.Bytes) == 1 && first.Bytes[0] == 3 {
			return pkcs12Format
		}
		return privateKeyDER
	case asn1.TagOID:
		return pkcs7Format
	case asn1.TagSequence:
		if _, err := x509.ParseCertificate(content); err == nil {
			return certificateDER
		}
		return privateKeyDER // Encrypted, by PKCS#8.
	default:
		return textFormat
	}
}

// pemText returns the text of a file that should be in PEM form, or an error that
// names its format and the command that converts it.
func pemText(content []byte) (string, error) {
	switch formatOf(content) {
	case pkcs12Format:
		return "", errors.New("a PKCS#12 file (.pfx): set certificate_path to it, and remove certificate_key_path")
	case pkcs7Format:
		return "", errors.New("a PKCS#7 file (.p7b), which holds no private key: convert it with openssl pkcs7 -inform der -in FILE -print_certs -out app.pem, and set certificate_key_path")
	case certificateDER:
		return "", errors.New("a certificate in DER form (.cer) without a key, no certificate in PEM form: convert it with openssl x509 -inform der -in FILE -out app.pem, and set certificate_key_path")
	case privateKeyDER:
		return "", errors.New("a private key in DER form: convert it with openssl pkey -inform der -in FILE -out app.key")
	default:
		text, err := readfile.Decode(content)
		return string(text), err
	}
}

// parseCertificates returns every certificate of a PEM file.
func parseCertificates(content string) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	for block := range pemBlocks(content) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("not a certificate: %w", err)
		}
		certificates = append(certificates, certificate)
	}
	if len(certificates) == 0 {
		return nil, errors.New("no certificate in PEM form (-----BEGIN CERTIFICATE-----) in it")
	}
	return certificates, nil
}

// parsePrivateKey returns the first private key of a PEM file. The texts of
// its errors are its own: those of the parsers may quote the key.
func parsePrivateKey(content string) (*rsa.PrivateKey, error) {
	for block := range pemBlocks(content) {
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY", block.Headers["DEK-Info"] != "":
			return nil, errors.New("the private key is encrypted: store it decrypted (openssl pkey) in a file only the exporter may read")
		case block.Type == "RSA PRIVATE KEY":
			key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
			if err != nil {
				return nil, errors.New("the RSA PRIVATE KEY in it cannot be parsed")
			}
			return key, nil
		case block.Type == "EC PRIVATE KEY":
			return nil, errNotRSA
		case block.Type == "PRIVATE KEY":
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, errors.New("the PRIVATE KEY in it cannot be parsed")
			}
			rsaKey, ok := key.(*rsa.PrivateKey)
			if !ok {
				return nil, errNotRSA
			}
			return rsaKey, nil
		}
	}
	return nil, errors.New("no private key in PEM form (-----BEGIN PRIVATE KEY-----) in it")
}

// pemBlocks yields the blocks of a PEM file and passes over what stands between.
func pemBlocks(content string) iter.Seq[*pem.Block] {
	return func(yield func(*pem.Block) bool) {
		rest := []byte(content)
		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil || !yield(block) {
				return
			}
		}
	}
}

// errNotRSA says why a key that TLS would take is of no use here.
var errNotRSA = errors.New("the private key is not an RSA key: Entra accepts client assertions signed by RSA keys only")
