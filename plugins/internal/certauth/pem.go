package certauth

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// NextBlock returns the next block of PEM and what follows it; nil when there is none. A byte order
// mark, which some editors put to the front, would otherwise hide the first one.
func NextBlock(data []byte) (block *pem.Block, rest []byte) {
	return pem.Decode(bytes.TrimPrefix(data, []byte("\ufeff")))
}

// ParseCertificates reads every certificate of a PEM file, whatever else is in it.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	hint := ""
	for block, rest := NextBlock(data); block != nil; block, rest = NextBlock(rest) {
		if block.Type != "CERTIFICATE" {
			hint += instead(block.Type)
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d is damaged: %w", len(chain)+1, err)
		}
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		return nil, errors.New("it holds no PEM certificate" + hint)
	}
	return chain, nil
}

// instead says what to do about a block that is taken for a certificate.
func instead(blockType string) string {
	switch blockType {
	case "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST":
		return " but a request for one; have a CA sign it, or name the file with what the CA sent back"
	case "TRUSTED CERTIFICATE":
		return " but OpenSSL's own form of one; write it anew with: openssl x509 -in OLD -out NEW"
	case "PKCS7":
		return " but PKCS#7; write it anew with: openssl pkcs7 -print_certs -in OLD -out NEW"
	}
	return ""
}
