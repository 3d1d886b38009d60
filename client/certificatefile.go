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

	"software.sslmate.com/src/go-pkcs12"

	"github.com/mde-exporter/mde_exporter/internal/readfile"
)

// read reads the certificate and its key from a PKCS#12 file, from one PEM file, or from
// two PEM files.
func (c Certificate) read(ctx context.Context, s signIn) (keyPair, error) {
	content, err := readCredentialBytes(ctx, "certificate_path", c.CertificatePath)
	if err != nil {
		return keyPair{}, err
	}
	if binaryFormat(content) == pkcs12File {
		return c.readPKCS12(ctx, s, content)
	}
	certificates, err := parseCertificates(content)
	if err != nil {
		return keyPair{}, fmt.Errorf("certificate_path: %s: %w", c.CertificatePath, err)
	}
	keyName, keyPath := "certificate_path", c.CertificatePath
	if c.KeyPath != "" {
		keyName, keyPath = "certificate_key_path", c.KeyPath
		if content, err = readCredentialBytes(ctx, keyName, keyPath); err != nil {
			return keyPair{}, err
		}
	}
	key, err := parsePrivateKey(content)
	if err != nil {
		return keyPair{}, fmt.Errorf("%s: %s: %w", keyName, keyPath, err)
	}
	return c.pair(key, certificates, keyPath)
}

// pair returns the key with its certificate, which need not be the first of a chain.
func (c Certificate) pair(key *rsa.PrivateKey, certificates []*x509.Certificate, keyPath string) (keyPair, error) {
	for _, certificate := range certificates {
		if key.PublicKey.Equal(certificate.PublicKey) {
			return keyPair{leaf: certificate, key: key}, nil
		}
	}
	return keyPair{}, fmt.Errorf("certificate_path: no certificate in %s belongs to the private key in %s", c.CertificatePath, keyPath)
}

// readPKCS12 reads the certificate and key from the content of a PKCS#12 file.
func (c Certificate) readPKCS12(ctx context.Context, s signIn, content []byte) (keyPair, error) {
	if c.KeyPath != "" {
		return keyPair{}, fmt.Errorf("certificate_key_path: the PKCS#12 file %s contains the private key: remove certificate_key_path", c.CertificatePath)
	}
	password, passwordKey := c.Password, "certificate_password"
	if c.PasswordFile != "" {
		passwordKey = "certificate_password_file"
		var err error
		if password, err = readCredentialFile(ctx, passwordKey, c.PasswordFile, withoutNewline); err != nil {
			return keyPair{}, err
		}
	}
	s.addSecret("certificate password", password)

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
	own, err := rsaKey(key)
	if err != nil {
		return keyPair{}, fmt.Errorf("certificate_path: %s: %w", c.CertificatePath, err)
	}
	return c.pair(own, append([]*x509.Certificate{leaf}, chain...), c.CertificatePath)
}

// The file formats that are not PEM: what they are, and the command that converts them.
const (
	pkcs12File     = "a PKCS#12 file (.pfx): set certificate_path to it, and remove certificate_key_path"
	pkcs7File      = "a PKCS#7 file (.p7b), which contains no private key: convert it with openssl pkcs7 -inform der -in FILE -print_certs -out app.pem, and set certificate_key_path"
	certificateDER = "a certificate in DER format (.cer) without a key, not in PEM format: convert it with openssl x509 -inform der -in FILE -out app.pem, and set certificate_key_path"
	privateKeyDER  = "a private key in DER format: convert it with openssl pkey -inform der -in FILE -out app.key"
)

// pkcs12BER is the start of a PKCS#12 file of indefinite length: a sequence and version 3.
var pkcs12BER = []byte{0x30, 0x80, 0x02, 0x01, 0x03}

// binaryFormat describes a binary file by the first element of its ASN.1 sequence. It
// returns "" for PEM and other content that is not ASN.1.
func binaryFormat(content []byte) string {
	var sequence struct{ First asn1.RawValue }
	if bytes.HasPrefix(content, pkcs12BER) {
		return pkcs12File
	}
	if _, err := asn1.Unmarshal(content, &sequence); err != nil || sequence.First.Class != asn1.ClassUniversal {
		return ""
	}
	switch first := sequence.First; first.Tag {
	case asn1.TagInteger: // The version.
		if bytes.Equal(first.Bytes, []byte{3}) {
			return pkcs12File
		}
		return privateKeyDER
	case asn1.TagOID:
		return pkcs7File
	case asn1.TagSequence:
		if _, err := x509.ParseCertificate(content); err == nil {
			return certificateDER
		}
		return privateKeyDER // Encrypted PKCS#8.
	default:
		return ""
	}
}

// pemBlocks returns the blocks of a PEM file. It ignores text between them.
func pemBlocks(content []byte) (blocks []*pem.Block, err error) {
	if format := binaryFormat(content); format != "" {
		return nil, errors.New(format)
	}
	rest, err := readfile.Decode(content)
	for err == nil {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		blocks = append(blocks, block)
	}
	return blocks, err
}

// parseCertificates returns every certificate of a PEM file.
func parseCertificates(content []byte) ([]*x509.Certificate, error) {
	blocks, err := pemBlocks(content)
	var certificates []*x509.Certificate
	for _, block := range blocks {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("not a certificate: %w", err)
		}
		certificates = append(certificates, certificate)
	}
	if err == nil && len(certificates) == 0 {
		err = errors.New("contains no certificate in PEM format (-----BEGIN CERTIFICATE-----)")
	}
	return certificates, err
}

// parsePrivateKey returns the first private key of a PEM file. It does not wrap the
// errors of the parsers, which may quote the key.
func parsePrivateKey(content []byte) (*rsa.PrivateKey, error) {
	blocks, err := pemBlocks(content)
	if err != nil {
		return nil, err
	}
	for _, block := range blocks {
		var key any
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY", block.Headers["DEK-Info"] != "":
			return nil, errors.New("the private key is encrypted: store it decrypted (openssl pkey) in a file that only the exporter can read")
		case block.Type == "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case block.Type == "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case block.Type != "EC PRIVATE KEY":
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot parse the %s", block.Type)
		}
		return rsaKey(key)
	}
	return nil, errors.New("contains no private key in PEM format (-----BEGIN PRIVATE KEY-----)")
}

// rsaKey returns the key as an RSA key. Other kinds of keys are errors.
func rsaKey(key any) (*rsa.PrivateKey, error) {
	if key, ok := key.(*rsa.PrivateKey); ok {
		return key, nil
	}
	return nil, errors.New("the private key is not an RSA key: Entra accepts client assertions signed by RSA keys only")
}
