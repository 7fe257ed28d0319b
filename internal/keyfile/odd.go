package keyfile

import (
	"bytes"
	"encoding/asn1"
	"regexp"
	"strings"
	"sync"
)

// Odd describes a file that has neither known PEM nor known DER, and what to do; "" if it is unknown. It continues a
// sentence such as "it holds no PEM private key".
func (c Content) Odd() string { return c.odd }

// start is the beginning of a known kind of file.
type start struct{ bytes, hint string }

var starts = [...]start{
	{"\xfe\xed\xfe\xed", keystore},
	{"\xce\xce\xce\xce", keystore},
	{"PuTTY-User-Key-File-", " but PuTTY's own form of a key; write it anew with: puttygen OLD -O private-openssh -o NEW && ssh-keygen -p -m PKCS8 -f NEW"},
	{"ssh-", " but an SSH public key; name the file with a certificate and its private key"},
	{"ecdsa-sha2-", " but an SSH public key; name the file with a certificate and its private key"},
	{"<", " but HTML or XML, such as a web page that was saved in its place"},
	{"age-encryption.org/", " but a file that is encrypted with age; decrypt it with: age --decrypt -i IDENTITY -o NEW OLD"},
	{"{", " but JSON, such as a JWK; name a file with the key or certificate as PEM"},
	{"\x7fELF", " but a program"},
	{"PK\x03\x04", " but a ZIP archive; unpack it"},
	{"\x1f\x8b", " but a file compressed with gzip; unpack it with: gunzip -c OLD > NEW"},
}

const keystore = " but a Java keystore (JKS); make PKCS#12 of it, which is read, with: keytool -importkeystore -srckeystore OLD -destkeystore NEW -deststoretype pkcs12"

// oddity describes text without a complete PEM block.
func oddity(text []byte) string {
	trimmed := bytes.TrimSpace(text)
	for _, s := range starts {
		if bytes.HasPrefix(trimmed, []byte(s.bytes)) {
			return s.hint
		}
	}
	begins, ends := bytes.Contains(text, []byte("-----BEGIN ")), bytes.Contains(text, []byte("-----END "))
	switch {
	case begins && !ends:
		return ", as it is cut off: a block of PEM begins in it and does not end; copy it whole"
	case begins:
		return ", as its PEM is damaged: between the lines BEGIN and END are other characters than base64, or the lines do not match; copy it anew"
	case ends || almostPEM().Match(text):
		return ", as its first or last line is not PEM's to the letter: -----BEGIN …----- with five hyphens on each side, which some editors replace by dashes; copy it anew"
	}
	return ""
}

// almostPEM finds a first line whose hyphens were changed or lost.
var almostPEM = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?:BEGIN|END) [A-Z0-9 ]*(?:CERTIFICATE|PRIVATE KEY|PKCS7)`)
})

// idSignedData is the object identifier of PKCS#7's usual content (RFC 2315, 14).
const idSignedData = "1.2.840.113549.1.7.2"

// oddDER describes DER that is neither a certificate nor a key, but may be PKCS#12.
func oddDER(der []byte) string {
	var outer struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"optional,explicit,tag:0"`
	}
	if _, err := asn1.Unmarshal(der, &outer); err == nil && outer.Type.String() == idSignedData {
		return " but PKCS#7; write it anew with: openssl pkcs7 -inform DER -print_certs -in OLD -out NEW"
	}
	return ""
}

// instead describes what to do about a block that was given as a certificate.
func instead(blockType string) string {
	switch {
	case blockType == "CERTIFICATE REQUEST" || blockType == "NEW CERTIFICATE REQUEST":
		return " but a request for one; have a CA sign it, or name the file with what the CA sent back"
	case blockType == "PKCS7" || blockType == "PKCS #7 SIGNED DATA" || blockType == "CMS":
		return " but PKCS#7; write it anew with: openssl pkcs7 -print_certs -in OLD -out NEW"
	case blockType == "X509 CRL":
		return " but a list of revoked ones; name the file with the certificate"
	case strings.HasSuffix(blockType, "PUBLIC KEY"):
		return " but a public key; name the file with the certificate that was issued for it"
	case strings.HasSuffix(blockType, "PRIVATE KEY"):
		return " but a private key; the certificate's file is another one, or put both into one file"
	}
	return ""
}
