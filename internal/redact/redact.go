// Package redact hides known secrets in untrusted text: a server may quote the request in its error, and the error
// ends up in a log. It finds secrets in plain form and in the encodings that answers use.
package redact

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/credagent/credagent/internal/secret"
)

const (
	// anywhere is the least length in bytes of a value that is hidden wherever it occurs.
	anywhere = 8
	// asWord is the least length of a value that is hidden where it stands alone, not within a longer word. A shorter
	// one would match harmless text, and is not a secret that a server should accept.
	asWord = 4
	// wholePart is the least length of a part of a token that is hidden by itself.
	wholePart = 16
	// maxEscapes is the maximum nesting of escapes, such as a form in a JSON string.
	maxEscapes = 2
)

// Redactor hides values. The zero value hides nothing.
type Redactor struct {
	values [][]byte
	words  [][]byte
}

// New returns a redactor that hides values.
func New(values ...string) Redactor {
	var r Redactor
	r.Hide(values...)
	return r
}

// Hide adds values. Those too short to be distinguished from other text are left out.
func (r *Redactor) Hide(values ...string) {
	for _, value := range values {
		switch {
		case len(value) >= anywhere:
			r.hideAnywhere(value)
			r.hideParts(value)
		case len(value) >= asWord:
			r.words = append(r.words, []byte(value), []byte(base64.StdEncoding.EncodeToString([]byte(value))), []byte(hex.EncodeToString([]byte(value))))
		}
	}
}

func (r *Redactor) hideAnywhere(value string) {
	backwards := []byte(value)
	slices.Reverse(backwards)
	r.values = append(append(r.values, []byte(value), backwards), encodings(value)...)
}

// hideParts hides the parts of a signed or encrypted token each by itself (RFC 7515, 3.1 and RFC 7516, 3.1):
// a server may quote only the payload or the signature. The decoded part is hidden too, unless it is JSON: a header
// or claims, which errors may quote.
func (r *Redactor) hideParts(value string) {
	parts := strings.Split(value, ".")
	if len(parts) != 3 && len(parts) != 5 || !strings.HasPrefix(value, "eyJ") {
		return
	}
	for _, part := range parts {
		if len(part) < wholePart {
			continue
		}
		r.hideAnywhere(part)
		plain, err := base64.RawURLEncoding.DecodeString(part)
		if err == nil && !json.Valid(plain) {
			r.hideAnywhere(string(plain))
		}
	}
}

// encodings returns a value in base64, at every offset within the encoded data, and in hexadecimal.
func encodings(value string) [][]byte {
	plain := hex.EncodeToString([]byte(value))
	all := [][]byte{[]byte(plain), []byte(strings.ToUpper(plain))}
	for before := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString(append(make([]byte, before), value...))
		// The first and the last digit may contain bits of the neighbouring data.
		first := (before*8 + 5) / 6
		inner := []byte(encoded[first : (before+len(value))*8/6])
		all = append(all, inner)
		if bytes.ContainsAny(inner, "+/") {
			all = append(all, bytes.ReplaceAll(bytes.ReplaceAll(inner, []byte("+"), []byte("-")), []byte("/"), []byte("_")))
		}
	}
	return all
}

// Empty reports whether nothing is hidden.
func (r Redactor) Empty() bool { return len(r.values) == 0 && len(r.words) == 0 }

// Text is [Redactor.Bytes] for a string.
func (r Redactor) Text(text string) string { return string(r.Bytes([]byte(text))) }

// Bytes replaces every hidden value, raw or as JSON, URLs, forms and HTML escape it.
func (r Redactor) Bytes(data []byte) []byte {
	if r.Empty() {
		return data
	}
	raw := view{text: data, origin: make([]span, len(data))}
	for i := range data {
		raw.origin[i] = span{int32(i), int32(i + 1)} //nolint:gosec // an answer is bounded far below
	}
	spans := r.find(nil, raw, maxEscapes)
	if len(spans) == 0 {
		return data
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var out []byte
	end := int32(0)
	for _, s := range spans {
		if s.from >= end {
			out = append(append(out, data[end:s.from]...), secret.Redacted...)
		}
		end = max(end, s.to)
	}
	return append(out, data[end:]...)
}

// find searches a view, and the views with escapes undone.
func (r Redactor) find(spans []span, v view, escapes int) []span {
	for _, value := range r.values {
		spans = v.find(spans, value, false)
	}
	for _, word := range r.words {
		spans = v.find(spans, word, true)
	}
	if escapes == 0 {
		return spans
	}
	for _, u := range [...]unescaper{{`\`, unescapeString}, {"&", unescapeHTML}, {"%", unescapeURL}, {"%+", unescapeForm}} {
		if bytes.ContainsAny(v.text, u.starts) {
			spans = r.find(spans, v.unescaped(u), escapes-1)
		}
	}
	return spans
}

// span is a part of the data, from one offset up to another.
type span struct{ from, to int32 }

// view is the data with escapes undone; origin maps each byte to its part of the data.
type view struct {
	text   []byte
	origin []span
}

func (v view) find(spans []span, hidden []byte, alone bool) []span {
	for at := 0; ; {
		i := bytes.Index(v.text[at:], hidden)
		if i < 0 {
			return spans
		}
		from, to := at+i, at+i+len(hidden)
		if !alone || (from == 0 || !inWord(v.text[from-1])) && (to == len(v.text) || !inWord(v.text[to])) {
			spans = append(spans, span{v.origin[from].from, v.origin[to-1].to})
		}
		at = to
	}
}

func inWord(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

// unescaper undoes one kind of escape. undo returns what the start of the text stands for and its length in bytes,
// which is 0 if it is not an escape.
type unescaper struct {
	starts string
	undo   func(text []byte) (plain []byte, taken int)
}

// unescaped returns the view with one kind of escape undone.
func (v view) unescaped(u unescaper) view {
	out := view{text: make([]byte, 0, len(v.text)), origin: make([]span, 0, len(v.text))}
	for i := 0; i < len(v.text); {
		plain, taken := v.text[i:i+1], 1
		if strings.IndexByte(u.starts, v.text[i]) >= 0 {
			if undone, n := u.undo(v.text[i:]); n > 0 {
				plain, taken = undone, n
			}
		}
		from := span{v.origin[i].from, v.origin[i+taken-1].to}
		for _, b := range plain {
			out.text = append(out.text, b)
			out.origin = append(out.origin, from)
		}
		i += taken
	}
	return out
}

// unescapeString reads an escape of JSON (RFC 8259, 7) or of Go, whose errors quote as Go does.
func unescapeString(text []byte) ([]byte, int) {
	if len(text) < 2 {
		return nil, 0
	}
	if i := strings.IndexByte(`"\/abfnrtv`, text[1]); i >= 0 {
		return []byte{"\"\\/\a\b\f\n\r\t\v"[i]}, 2
	}
	if text[1] == 'x' {
		if plain, n := unescapeURL(text[1:]); n > 0 {
			return plain, n + 1
		}
	}
	first, ok := unicodeEscape(text)
	if !ok {
		return nil, 0
	}
	if second, ok := unicodeEscape(text[6:]); ok && utf16.IsSurrogate(first) {
		if r := utf16.DecodeRune(first, second); r != utf8.RuneError {
			return utf8.AppendRune(nil, r), 12
		}
	}
	return utf8.AppendRune(nil, first), 6
}

func unicodeEscape(text []byte) (rune, bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	return rune(n), err == nil
}

func unescapeHTML(text []byte) ([]byte, int) {
	const longest = 10
	end := bytes.IndexByte(text[:min(len(text), longest)], ';') + 1
	entity := string(text[:end])
	if plain := html.UnescapeString(entity); plain != entity && strings.LastIndexByte(entity, '&') == 0 {
		return []byte(plain), end
	}
	return nil, 0
}

// unescapeURL reads one byte as two hexadecimal digits after a sign.
func unescapeURL(text []byte) ([]byte, int) {
	if len(text) < 3 {
		return nil, 0
	}
	n, err := strconv.ParseUint(string(text[1:3]), 16, 8)
	if err != nil {
		return nil, 0
	}
	return []byte{byte(n)}, 3
}

func unescapeForm(text []byte) ([]byte, int) {
	if text[0] == '+' {
		return []byte{' '}, 1
	}
	return unescapeURL(text)
}
