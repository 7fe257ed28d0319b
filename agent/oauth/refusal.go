package oauth

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/credagent/credagent/internal/printable"
)

// maxMarkup limits how much of a web page is read.
const maxMarkup = 64 << 10

// maxNesting limits how deep an answer is searched for the server's text.
const maxNesting = 4

// Names under which servers put a code, a message, and objects with more of both; in lower case, without word
// separators. The first one present is used.
var (
	codeNames = [...]string{"errorcode", "code", "errcode", "status", "reason", "errortype", "type"}
	wordNames = [...]string{"errordescription", "errormessage", "message", "msg", "errmsg", "errormsg", "errorsummary",
		"description", "detail", "details", "faultstring", "moreinformation", "developermessage", "usermessage",
		"value", "text", "title", "httpmessage", "reason"}
	innerNames = [...]string{"error", "fault", "errors", "detail", "details", "message", "exception", "response", "data", "body", "result"}
)

// refusal is the content of an answer in a non-standard format.
type refusal struct {
	codes []string // innermost last
	words []string
}

// read searches a JSON value.
func (r *refusal) read(value any, depth int) {
	if list, ok := value.([]any); ok && len(list) > 0 {
		value = list[0]
	}
	object, ok := value.(map[string]any)
	if !ok || depth > maxNesting {
		if text, ok := value.(string); ok && depth > 0 {
			r.words = append(r.words, text)
		}
		return
	}
	for _, name := range codeNames {
		if text := scalar(member(object, name)); text != "" {
			r.codes = append(r.codes, text)
		}
	}
	for _, name := range wordNames {
		if text, ok := member(object, name).(string); ok && strings.TrimSpace(text) != "" {
			r.words = append(r.words, text)
		}
	}
	for _, name := range innerNames {
		switch inner := member(object, name).(type) {
		case map[string]any, []any:
			r.read(inner, depth+1)
		}
	}
}

// member finds a member regardless of case and separators; an exact match wins.
func member(object map[string]any, name string) any {
	if value, ok := object[name]; ok {
		return value
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if strings.ToLower(strings.NewReplacer("_", "", "-", "", ".", "", " ", "").Replace(key)) == name {
			return object[key]
		}
	}
	return nil
}

func scalar(value any) string {
	switch value := value.(type) {
	case string:
		return value
	case json.Number:
		return value.String()
	}
	return ""
}

// code returns the first code of RFC 6749 or an extension; "" for none.
func (r *refusal) code() string {
	for _, code := range r.codes {
		if known := knownCode(code); known != "" {
			return known
		}
	}
	return ""
}

// text returns the server's description, prefixed with its own code if that is not shown otherwise.
func (r *refusal) text(code string) string {
	const maxCode = 80
	words := ""
	if len(r.words) > 0 {
		words = r.words[0]
	}
	if len(r.codes) > 0 && code == "" && len(r.codes[0]) <= maxCode && r.codes[0] != words {
		return Printable(strings.TrimSuffix(r.codes[0]+": "+words, ": "))
	}
	return Printable(words)
}

// knownCode returns the standard code for a server's own spelling, such as INVALID_CLIENT, invalidClient or
// oauth.v2.InvalidClient; "" if there is none.
func knownCode(word string) string {
	if dot := strings.LastIndexByte(word, '.'); dot >= 0 && dot < len(word)-1 {
		word = word[dot+1:]
	}
	var name strings.Builder
	before := ' '
	for _, r := range strings.TrimSpace(word) {
		switch {
		case r == '-' || r == ' ':
			r = '_'
		case unicode.IsUpper(r) && unicode.IsLower(before):
			name.WriteByte('_')
		}
		name.WriteRune(unicode.ToLower(r))
		before = r
	}
	switch known := strings.TrimSuffix(strings.TrimSuffix(name.String(), "_exception"), "_error"); known {
	case "invalid_client", "invalid_grant", "invalid_scope", "invalid_request", "invalid_target", "unauthorized_client",
		"unsupported_grant_type", "invalid_client_assertion", "invalid_client_id", "invalid_client_secret",
		"invalid_client_credentials", "invalid_credentials", "access_denied", "interaction_required", "consent_required",
		"login_required", "temporarily_unavailable", "server_error", "slow_down", "too_many_requests", "rate_limit_exceeded":
		return known
	case "invalid_client_identifier", "client_authentication_failed":
		return "invalid_client"
	case "server":
		return "server_error"
	}
	return ""
}

// errorCode reads the error of RFC 6749. Frameworks put a status text there ("Not Found"), which adds nothing to the
// status.
func errorCode(word string) string {
	if known := knownCode(word); known != "" {
		return known
	}
	switch strings.ToLower(strings.TrimSpace(word)) {
	case "bad request", "unauthorized", "forbidden", "not found", "method not allowed", "not acceptable", "conflict", "gone",
		"unsupported media type", "unprocessable entity", "unprocessable content", "too many requests",
		"internal server error", "bad gateway", "service unavailable", "gateway timeout":
		return ""
	}
	return Printable(word)
}

// decodeObject reads JSON and keeps the spelling of numbers.
func decodeObject(body []byte) (any, bool) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return nil, false
	}
	_, err := decoder.Token()
	return value, err == io.EOF
}

// formObject reads a form that contains an error or a token.
func formObject(body []byte) (map[string]any, bool) {
	form, err := url.ParseQuery(string(bytes.TrimSpace(body)))
	if err != nil || !form.Has("error") && !form.Has("access_token") {
		return nil, false
	}
	object := map[string]any{}
	for name := range form {
		object[name] = form.Get(name)
	}
	return object, true
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// Words returns the text of an error answer that is neither JSON nor a form: the title of a web page, the text of
// XML, or plain text; cleaned and limited, "" for nothing.
func Words(body []byte) string {
	body = bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(body), byteOrderMark))
	var text string
	switch {
	case len(body) == 0 || !utf8.Valid(body) || bytes.ContainsRune(body, 0):
		return ""
	case body[0] == '<':
		text = markup(body[:min(len(body), maxMarkup)])
	case json.Unmarshal(body, &text) == nil: // a JSON string
	default:
		text = string(body[:min(len(body), 4*maxPrintable)])
	}
	return Printable(strings.Join(strings.Fields(printable.Line(text)), " "))
}

// markup returns the title of a web page, or the text of other markup.
func markup(body []byte) string {
	decoder := xml.NewDecoder(strings.NewReader(without(without(string(body), "script"), "style")))
	decoder.Strict, decoder.AutoClose, decoder.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	decoder.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	var text, title strings.Builder
	element := ""
	for text.Len() < 4*maxPrintable {
		token, err := decoder.Token()
		if err != nil {
			break
		}
		switch token := token.(type) {
		case xml.StartElement:
			element = strings.ToLower(token.Name.Local)
		case xml.EndElement:
			element = ""
		case xml.CharData:
			switch element {
			case "title":
				title.Write(token)
			default:
				text.Write(token)
				text.WriteByte(' ')
			}
		}
	}
	if strings.TrimSpace(title.String()) != "" {
		return title.String()
	}
	return text.String()
}

// without removes an element's content from a web page: it is a program, not markup.
func without(page, element string) string {
	var kept strings.Builder
	for {
		lower := strings.ToLower(page)
		start := strings.Index(lower, "<"+element)
		if start < 0 || len(lower) != len(page) {
			return kept.String() + page
		}
		kept.WriteString(page[:start])
		end := strings.Index(lower[start:], "</"+element+">")
		if end < 0 {
			return kept.String()
		}
		page = page[start+end+len("</"+element+">"):]
	}
}

// ChallengeWords returns the error and the description in WWW-Authenticate values (RFC 6750, 3), which some servers
// use to explain a refusal.
func ChallengeWords(values []string) (code, description string) {
	for _, value := range values {
		all, err := challengesIn(value)
		if err != nil || len(value) > maxChallenge {
			continue
		}
		for _, c := range all {
			code, description = errorCode(c.parameters["error"]), Printable(c.parameters["error_description"])
			if code != "" || description != "" {
				return code, description
			}
		}
	}
	return "", ""
}
