package plugins

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins/providerpb"
)

// shortestSecret is the length in bytes from which a value is hidden. A shorter one would be found
// in innocent text, and is no secret that a server should have accepted.
const shortestSecret = 8

// redactor hides what authenticated a request wherever the answer repeats it: some servers quote
// the request in their error, and what the agent gets may end in a log.
type redactor struct {
	hidden [][]byte
}

// newRedactor hides what the provider added to a request: before is the request as it was made,
// after the one that was sent.
func newRedactor(before, after *Request) redactor {
	var r redactor
	for name, values := range after.Form {
		if name == "client_assertion_type" {
			continue // a registered, public name (RFC 7521, 4.2)
		}
		r.hide(added(before.Form[name], values)...)
	}
	for name, values := range after.Header {
		for _, value := range added(before.Header[name], values) {
			r.hide(value)
			if name == "Authorization" {
				r.hide(credentials(value)...)
			}
		}
	}
	return r
}

func (r *redactor) hide(values ...string) {
	for _, value := range values {
		if len(value) >= shortestSecret {
			r.hidden = append(r.hidden, []byte(value))
		}
	}
}

// added are the values that are new in after.
func added(before, after []string) []string {
	return slices.DeleteFunc(slices.Clone(after), func(value string) bool { return slices.Contains(before, value) })
}

// credentials are the secret parts of an Authorization header (RFC 7617, 2; RFC 6749, 2.3.1).
func credentials(header string) []string {
	scheme, rest, _ := strings.Cut(header, " ")
	parts := []string{rest}
	if !strings.EqualFold(scheme, "Basic") {
		return parts
	}
	pair, err := base64.StdEncoding.DecodeString(rest)
	if err != nil {
		return parts
	}
	_, password, _ := strings.Cut(string(pair), ":")
	parts = append(parts, password)
	if plain, err := url.QueryUnescape(password); err == nil {
		parts = append(parts, plain)
	}
	return parts
}

// reply redacts a reply in place. The body of a success is the token's and stays as it is.
func (r redactor) reply(reply *providerpb.ExchangeReply) {
	if len(r.hidden) == 0 {
		return
	}
	if failure := reply.GetFailure(); failure != nil {
		failure.Message = r.text(failure.GetMessage())
	}
	answer := reply.GetAnswer()
	if answer == nil {
		return
	}
	for _, header := range answer.GetHeaders() {
		header.Value = r.text(header.GetValue())
	}
	answer.BodyError = r.text(answer.GetBodyError())
	if answer.GetStatus()/100 != 2 || !holdsToken(answer.GetBody()) {
		body := r.bytes(answer.GetBody())
		answer.Body = body[:min(len(body), maxBody)]
	}
}

// holdsToken reports whether a body is a token answer (RFC 6749, 5.1). Some servers send errors
// with a status of success.
func holdsToken(body []byte) bool {
	var answer struct {
		AccessToken string          `json:"access_token"`
		Error       json.RawMessage `json:"error"`
	}
	return json.Unmarshal(body, &answer) == nil && answer.AccessToken != "" && answer.Error == nil
}

func (r redactor) text(text string) string { return string(r.bytes([]byte(text))) }

// bytes replaces every hidden value, raw or as JSON, URLs, forms and HTML escape it.
func (r redactor) bytes(data []byte) []byte {
	var spans []span
	for _, v := range views(data) {
		for _, hidden := range r.hidden {
			spans = v.find(spans, hidden)
		}
	}
	if len(spans) == 0 {
		return data
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var out []byte
	end := 0
	for _, s := range spans {
		if s.from >= end {
			out = append(append(out, data[end:s.from]...), secret.Redacted...)
		}
		end = max(end, s.to)
	}
	return append(out, data[end:]...)
}

// span is a part of the data, from one offset up to another.
type span struct{ from, to int }

// view is the data with escapes undone; origin says which part of the data each byte stands for.
type view struct {
	text   []byte
	origin []span
}

func (v view) find(spans []span, hidden []byte) []span {
	for at := 0; ; {
		i := bytes.Index(v.text[at:], hidden)
		if i < 0 {
			return spans
		}
		spans = append(spans, span{v.origin[at+i].from, v.origin[at+i+len(hidden)-1].to})
		at += i + len(hidden)
	}
}

// views are the ways to read the data: as it is, as a quoted string or HTML, and each of them with the
// percent-encoding of URLs or of forms within.
func views(data []byte) []view {
	raw := view{text: data, origin: make([]span, len(data))}
	for i := range data {
		raw.origin[i] = span{i, i + 1}
	}
	all := []view{raw}
	for _, outer := range []unescaper{{`\`, unescapeString}, {"&", unescapeHTML}} {
		all = raw.unescaped(all, outer)
	}
	for _, v := range slices.Clone(all) {
		for _, inner := range []unescaper{{"%", unescapeURL}, {"%+", unescapeForm}} {
			all = v.unescaped(all, inner)
		}
	}
	return all
}

// unescaper undoes one kind of escape. undo returns what the start of the text stands for and how
// many bytes that took, which is 0 where it is no escape.
type unescaper struct {
	starts string
	undo   func(text []byte) (plain []byte, taken int)
}

// unescaped appends the view with one kind of escape undone, if there is any in it.
func (v view) unescaped(to []view, u unescaper) []view {
	if !bytes.ContainsAny(v.text, u.starts) {
		return to
	}
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
	return append(to, out)
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
