package redact

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// awkward holds every character that JSON, URLs, forms or HTML escape.
const awkward = `c4n/ry+1 "q\ü&<%41>😀` + "\t"

// escapes are the ways in which an answer may repeat a value.
func escapes() map[string]func(string) string {
	asJSON := func(s string) string {
		encoded, _ := json.Marshal(s)
		return string(encoded[1 : len(encoded)-1])
	}
	return map[string]func(string) string{
		"raw":            func(s string) string { return s },
		"JSON":           asJSON,
		"JSON, slashes":  func(s string) string { return strings.ReplaceAll(asJSON(s), "/", `\/`) },
		"JSON, ASCII":    asciiJSON,
		"form":           url.QueryEscape,
		"URL":            url.PathEscape,
		"lower-case hex": lowerHex,
		"form in JSON":   func(s string) string { return asJSON(url.QueryEscape(s)) },
		"HTML":           html.EscapeString,
		"form in HTML":   func(s string) string { return html.EscapeString(url.QueryEscape(s)) },
		"form in a form": func(s string) string { return url.QueryEscape(url.QueryEscape(s)) },
		"JSON in JSON":   func(s string) string { return asJSON(asJSON(s)) },
		"Go's quotes":    func(s string) string { q := fmt.Sprintf("%q", s); return q[1 : len(q)-1] },
	}
}

func asciiJSON(s string) string {
	var out strings.Builder
	for _, r := range s {
		if r < 0x10000 {
			fmt.Fprintf(&out, `\u%04X`, r)
			continue
		}
		fmt.Fprintf(&out, `\ud83d\ude00`) // the one such character in use here
	}
	return out.String()
}

func lowerHex(s string) string {
	var out strings.Builder
	for _, b := range []byte(s) {
		fmt.Fprintf(&out, "%%%02x", b)
	}
	return out.String()
}

func TestRedactorFindsEveryEncoding(t *testing.T) {
	r := New(awkward)
	for name, encode := range escapes() {
		t.Run(name, func(t *testing.T) {
			quoted := encode(awkward)
			in := `{"error":"invalid_client","error_description":"bad ` + quoted + `, again ` + quoted + ` 100% & more\n"}`
			want := `{"error":"invalid_client","error_description":"bad [redacted], again [redacted] 100% & more\n"}`
			if got := r.Text(in); got != want {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestRedactorLeavesTheRest(t *testing.T) {
	r := New("sesame-sesame")
	for _, text := range []string{
		"", "%", "%4", "%zz", `\`, `\u`, `\u00`, `\uzzzz`, `\ud83d`, `\ud83d\u0041`, "&", "&amp", "&nothing;", "&#;", "+", "a+b%20c",
		"sesame-sesam", "\xff\xfe", strings.Repeat(`\`, 7), "&amp;&lt;\\\"%41",
	} {
		if got := r.Text(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	overlapping := New("abcdefgh", "efghijkl", "cdefghij")
	if got := overlapping.Text("<abcdefghijkl>"); got != "<[redacted]>" {
		t.Errorf("overlapping values became %q", got)
	}
}

// Whatever surrounds it, a repeated value is hidden, in each encoding, and nothing else changes.
func FuzzRedact(f *testing.F) {
	f.Add("sesame-sesame", `{"error":"`, `"}`)
	f.Add(awkward, `\u00e9%zz&amp;`, `\ud83d\ude00`)
	f.Add("aaaaaaaa", "aaa", "aaaaaaaaaaaa")
	f.Add("%25%25%25", "%", "%25")
	f.Fuzz(func(t *testing.T, value, before, after string) {
		if len(value) < anywhere || strings.ContainsAny(value, "[]") || value != strings.ToValidUTF8(value, "") || strings.ContainsFunc(value, func(r rune) bool { return r > 0xffff && r != '😀' }) {
			return
		}
		r := New(value)
		for name, encode := range escapes() {
			quoted := encode(value)
			// The brackets keep a half escape in what surrounds it from swallowing the first character.
			text := before + "[" + quoted + "]" + after
			got := r.Text(text)
			if !strings.Contains(got, "[[redacted]]") || strings.Contains(got, value) {
				t.Errorf("%s: %q in %q became %q", name, quoted, text, got)
			}
			if !strings.Contains(text, value) && r.Text(before) == before && r.Text(after) == after && got != before+"[[redacted]]"+after {
				t.Errorf("%s: %q became %q", name, text, got)
			}
		}
	})
}

// What was encoded as a whole, with or without something beside it, is found as well.
func TestEncodingsAreHidden(t *testing.T) {
	const value = "s3cret?>~ü-0815"
	r := New(value)
	for before := range 7 {
		for after := range 4 {
			text := strings.Repeat("u", before) + value + strings.Repeat("v", after)
			for name, encoded := range map[string]string{
				"base64":             base64.StdEncoding.EncodeToString([]byte(text)),
				"base64, no padding": base64.RawStdEncoding.EncodeToString([]byte(text)),
				"base64 of URLs":     base64.URLEncoding.EncodeToString([]byte(text)),
				"hexadecimal":        hex.EncodeToString([]byte(text)),
				"HEXADECIMAL":        strings.ToUpper(hex.EncodeToString([]byte(text))),
				"in a URL":           url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(text))),
			} {
				got := r.Text("<" + encoded + ">")
				if !strings.Contains(got, "[redacted]") || len(got) > len("<[redacted]>")+4*(before+after)+8 {
					t.Errorf("%s, %d before and %d after: %s", name, before, after, got)
				}
			}
		}
	}
}

// A short secret is hidden where it stands alone, and not in the words of others.
func TestShortValues(t *testing.T) {
	r := New("abc4", "x", "")
	for in, want := range map[string]string{
		"abc4":                             "[redacted]",
		`{"error":"secret abc4 is wrong"}`: `{"error":"secret [redacted] is wrong"}`,
		"client_secret=abc4&x=1":           "client_secret=[redacted]&x=1",
		"a%3Dabc4":                         "a%3D[redacted]",
		"YWJjNA==":                         "[redacted]",
		"61626334":                         "[redacted]",
		"xabc4 abc45 abc4_":                "xabc4 abc45 abc4_",
		"x":                                "x",
	} {
		if got := r.Text(in); got != want {
			t.Errorf("%q became %q", in, got)
		}
	}
}

// TestPartsOfATokenAreHidden: a server may quote parts of what it was sent, or has issued, in any order.
func TestPartsOfATokenAreHidden(t *testing.T) {
	encode := base64.RawURLEncoding.EncodeToString
	header, claims := encode([]byte(`{"alg":"PS256","typ":"JWT"}`)), encode([]byte(`{"sub":"canary-subject"}`))
	raw := "canary-of-a-signature\xfb\xff\x01\x80-bytes"
	signature := encode([]byte(raw))
	signed := header + "." + claims + "." + signature
	key, iv := encode([]byte("canary-of-an-encrypted-key")), encode([]byte("123456789012"))
	encrypted := strings.Join([]string{header, key, iv, signature, claims}, ".")
	opaque := "eyJcanary-of-a-head.canary-of-a-payload.canary-of-a-signature"
	backwards := func(s string) string {
		b := []byte(s)
		slices.Reverse(b)
		return string(b)
	}
	for name, tc := range map[string]struct{ value, said, canary string }{
		"whole":                      {signed, signed, signature},
		"by spaces":                  {signed, strings.ReplaceAll(signed, ".", " "), signature},
		"by spaces, its claims":      {signed, strings.ReplaceAll(signed, ".", " "), claims},
		"by lines":                   {signed, strings.ReplaceAll(signed, ".", "\\n"), claims},
		"signature":                  {signed, "sig=" + signature, signature},
		"claims":                     {signed, claims + "x", claims},
		"the other way round":        {signed, signature + "." + claims + "." + header, signature},
		"header and claims":          {signed, header + "." + claims, claims},
		"backwards":                  {signed, backwards(signed), backwards(signature)},
		"a part backwards":           {signed, backwards(signature), backwards(signature)},
		"signature in hex":           {signed, hex.EncodeToString([]byte(signature)), hex.EncodeToString([]byte(signature))[10:]},
		"what it encodes in hex":     {signed, hex.EncodeToString([]byte(raw)), hex.EncodeToString([]byte(raw))},
		"what it encodes in base64":  {signed, base64.StdEncoding.EncodeToString([]byte(raw)), base64.StdEncoding.EncodeToString([]byte(raw))[:30]},
		"what it encodes":            {signed, raw, "canary"},
		"signature encoded again":    {signed, encode([]byte(signature)), encode([]byte(signature))[:40]},
		"an encrypted key":           {encrypted, "key " + key, key},
		"a ciphertext":               {encrypted, "text " + signature, signature},
		"no token, but like one":     {opaque, strings.ReplaceAll(opaque, ".", " "), "canary"},
		"claims, as JSON escapes it": {signed, `"` + lowerHex(claims) + `"`, lowerHex(claims)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := New(tc.value).Text("it said: " + tc.said); strings.Contains(got, tc.canary) || !strings.HasPrefix(got, "it said: ") {
				t.Errorf("%q", got)
			}
		})
	}
	for name, tc := range map[string]struct{ value, innocent string }{
		"a name of a host":   {"login.authorization-server.example", "authorization-server is down"},
		"a header's meaning": {signed, `alg "PS256" is not allowed: {"alg":"PS256","typ":"JWT"}`},
		"a claim":            {signed, `sub "canary-subject" is unknown`},
		"the start of a key": {signed, "eyJ is how it begins"},
	} {
		if got := New(tc.value).Text(tc.innocent); got != tc.innocent {
			t.Errorf("%s: %q", name, got)
		}
	}
}
