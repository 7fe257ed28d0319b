package keyfile

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"
)

// Content is the content of a file of keys and certificates.
type Content struct {
	Blocks []*pem.Block // PEM, and certificates and keys in DER, which get their PEM label
	DER    []byte       // other DER, such as PKCS#12; nil if there are blocks
	odd    string       // what it is instead, and what to do; "" if unknown
}

// Clear overwrites what was read.
func (c Content) Clear() {
	clear(c.DER)
	for _, block := range c.Blocks {
		clear(block.Bytes)
	}
}

// maxWrappings limits how often base64 is decoded: once for a download, once for a variable.
const maxWrappings = 3

// Read finds the keys and certificates in data, which it does not modify.
func Read(data []byte) Content {
	inner := unwrap(data)
	if inner.der != nil {
		if !inner.made {
			inner.der = bytes.Clone(inner.der) // [Content.Clear] must not clear the caller's data
		}
		return readDER(inner.der)
	}
	if inner.made {
		defer clear(inner.text)
	}
	text := repaired(inner.text)
	defer clear(text)
	var c Content
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c.Blocks = append(c.Blocks, block)
	}
	if len(c.Blocks) == 0 {
		c.odd = oddity(inner.text)
	}
	return c
}

// wrapped is a file's content after decoding, text or DER.
type wrapped struct {
	text, der []byte
	made      bool // it is a copy
}

// replace replaces the text, and leaves no copy behind.
func (w *wrapped) replace(text []byte) {
	if w.made {
		clear(w.text)
	}
	w.text, w.made = text, true
}

// unwrap decodes the whole file: UTF-16, and base64 as Key Vault exports PKCS#12.
func unwrap(data []byte) wrapped {
	w := wrapped{text: data}
	for range maxWrappings {
		if isDER(w.text) {
			break
		}
		if text := Text(w.text); len(text) < len(w.text) && !bytes.HasSuffix(w.text, text) {
			w.replace(text)
		} else {
			w.text = text
		}
		if bytes.Contains(w.text, []byte("-----BEGIN")) {
			return w
		}
		inner, ok := fromBase64(w.text)
		if !ok {
			return w
		}
		w.replace(inner)
	}
	if isDER(w.text) {
		return wrapped{der: w.text, made: w.made}
	}
	return w
}

// derTags are the tags of an integer, a bit or octet string and an object identifier: every certificate, key or
// container has one, and no text contains these bytes.
const derTags = "\x02\x03\x04\x06"

// isDER distinguishes DER, always a SEQUENCE here, from text that begins with a zero.
func isDER(data []byte) bool {
	var first asn1.RawValue
	_, err := asn1.Unmarshal(data, &first)
	return err == nil && first.Class == asn1.ClassUniversal && first.Tag == asn1.TagSequence && first.IsCompound &&
		bytes.ContainsAny(first.Bytes, derTags)
}

// fromBase64 decodes base64 of DER or of text with PEM, but no other base64, such as a secret.
func fromBase64(text []byte) ([]byte, bool) {
	packed := appendBase64(make([]byte, 0, len(text)), text)
	defer clear(packed)
	if len(packed) < 64 {
		return nil, false
	}
	packed = bytes.TrimRight(packed, "=")
	inner := make([]byte, base64.RawStdEncoding.DecodedLen(len(packed)))
	if _, err := base64.RawStdEncoding.Decode(inner, packed); err != nil {
		clear(inner)
		return nil, false
	}
	return inner, true
}

// appendBase64 appends text without the characters that variables and configuration files add to base64. It makes no
// copy that would have to be cleared: to has enough capacity.
func appendBase64(to, text []byte) []byte {
	for len(text) > 0 {
		if n := unwrapped(text); n > 0 {
			to, text = append(to, text[:n]...), text[n:]
		} else if n := skipped(text); n > 0 {
			text = text[n:]
		} else {
			to, text = append(to, text[0]), text[1:]
		}
	}
	return to
}

// unwrapped returns the length of the leading part of text that contains no added characters.
func unwrapped(text []byte) int {
	for i, b := range text {
		if b <= ' ' || b >= utf8.RuneSelf || b == '\\' || b == '"' || b == '\'' {
			return i
		}
	}
	return len(text)
}

// skipped returns the length of the leading part of text that is not base64, 0 for none.
func skipped(text []byte) int {
	if text[0] != '\\' {
		return blank(text)
	}
	n := len(text) - len(bytes.TrimLeft(text, `\`)) // an escaped line break or quote
	if n < len(text) && strings.IndexByte("nrt", text[n]) >= 0 {
		n++
	}
	return n
}

// blank is the length of what text begins with that is no part of base64, and that people cannot see or
// take for a mark of their own.
func blank(text []byte) int {
	for _, b := range [...]string{" ", "\t", "\r", "\n", "\v", "\f", "\"", "'", "\u00a0", "\u200b", "\ufeff"} {
		if bytes.HasPrefix(text, []byte(b)) {
			return len(b)
		}
	}
	return 0
}

// These are compiled only when a file needs them.
var (
	lineBreaks = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\\+[nrt]`) })
	encryption = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[\s\x{a0}"']*Proc-Type:\s*4,\s*ENCRYPTED[\s\x{a0}"']+DEK-Info:\s*([A-Za-z0-9-]+,[0-9A-Fa-f]+)[\s\x{a0}"']`)
	})
)

// repaired rewrites every block for Go's decoder, whatever happened to its lines: breaks written as \n or as spaces,
// indented, quoted, or missing.
func repaired(text []byte) []byte {
	var out bytes.Buffer
	out.Grow(2 * len(text))
	for {
		_, after, label := boundary(text, "BEGIN")
		body, rest, end := boundary(after, "END")
		if label == nil || end == nil {
			return out.Bytes()
		}
		text = rest
		fmt.Fprintf(&out, "-----BEGIN %s-----\n", label)
		if bytes.Contains(body, []byte("Proc-Type")) { // the content is encrypted, so copies do no harm
			body = lineBreaks().ReplaceAll(body, []byte("\n"))
		}
		if header := encryption().FindSubmatch(body); header != nil {
			fmt.Fprintf(&out, "Proc-Type: 4,ENCRYPTED\nDEK-Info: %s\n\n", header[1])
			body = body[len(header[0]):]
		}
		packed := appendBase64(make([]byte, 0, len(body)), body)
		for left := packed; len(left) > 0; {
			line := left[:min(64, len(left))]
			out.Write(line)
			out.WriteByte('\n')
			left = left[len(line):]
		}
		clear(packed)
		fmt.Fprintf(&out, "-----END %s-----\n", end)
	}
}

// boundary finds the first PEM boundary of a kind, BEGIN or END, anywhere in a line. It returns the text before and
// after it, and its label; nil if there is none.
func boundary(text []byte, kind string) (before, after, label []byte) {
	opening, hyphens := []byte("-----"+kind+" "), []byte("-----")
	for from := 0; ; {
		i := bytes.Index(text[from:], opening)
		if i < 0 {
			return nil, nil, nil
		}
		at := from + i
		from = at + 1
		rest := text[at+len(opening):]
		n := labelLength(rest)
		if n > 0 && rest[0] != ' ' && bytes.HasPrefix(rest[n:], hyphens) {
			return text[:at], rest[n+len(hyphens):], rest[:n]
		}
	}
}

func labelLength(text []byte) int {
	for i, b := range text {
		if b != ' ' && (b < '0' || b > '9') && (b < 'A' || b > 'Z') {
			return i
		}
	}
	return len(text)
}

// readDER identifies the content of DER.
func readDER(der []byte) Content {
	if certificates, err := x509.ParseCertificates(der); err == nil && len(certificates) > 0 {
		var c Content
		for _, certificate := range certificates {
			c.Blocks = append(c.Blocks, &pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
		}
		return c
	}
	if label := keyLabel(der); label != "" {
		return Content{Blocks: []*pem.Block{{Type: label, Bytes: der}}}
	}
	return Content{DER: der, odd: oddDER(der)}
}

// keyLabel returns the PEM label of a private key in DER; "" if it is none. It depends on the first fields: PKCS#8
// begins with a version and an algorithm, PKCS#1 with two integers, SEC 1 with an integer and an octet string, an
// encrypted key with an algorithm.
func keyLabel(der []byte) string {
	var parts []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &parts); err != nil || len(rest) > 0 || len(parts) < 2 {
		return ""
	}
	switch first, second := parts[0].Tag, parts[1].Tag; {
	case first == asn1.TagInteger && second == asn1.TagInteger && len(parts) >= 9:
		return "RSA PRIVATE KEY"
	case first == asn1.TagInteger && second == asn1.TagOctetString:
		return "EC PRIVATE KEY"
	case first == asn1.TagInteger && second == asn1.TagSequence && len(parts) >= 3 && parts[2].Tag == asn1.TagOctetString:
		return "PRIVATE KEY"
	case first == asn1.TagSequence && second == asn1.TagOctetString && len(parts) == 2:
		return "ENCRYPTED PRIVATE KEY"
	}
	return ""
}

// Certificates reads every certificate of a file, whatever else is in it.
func Certificates(data []byte) ([]*x509.Certificate, error) {
	c := Read(data)
	defer c.Clear()
	return c.Certificates()
}

// Certificates returns the certificates among the blocks.
func (c Content) Certificates() ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	hint := c.odd
	for _, block := range c.Blocks {
		der := bytes.Clone(block.Bytes) // a certificate refers to its input
		switch block.Type {
		case "CERTIFICATE", "X509 CERTIFICATE":
		case "TRUSTED CERTIFICATE":
			der = firstElement(der) // OpenSSL's trust settings follow
		default:
			if more := instead(block.Type); !strings.Contains(hint, more) {
				hint += more
			}
			continue
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d is damaged: %w%s", len(chain)+1, err, negativeSerial(err))
		}
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		return nil, errors.New("it holds no PEM certificate" + hint)
	}
	return chain, nil
}

func negativeSerial(err error) string {
	if strings.Contains(err.Error(), "negative serial") {
		return ", which RFC 5280, 4.1.2.2 forbids; have it issued again, or set GODEBUG=x509negativeserial=1 in the agent's environment"
	}
	return ""
}

func firstElement(der []byte) []byte {
	var first asn1.RawValue
	if _, err := asn1.Unmarshal(der, &first); err != nil {
		return der
	}
	return first.FullBytes
}
