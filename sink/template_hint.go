package sink

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// TemplateError is a mistake in a template.
type TemplateError struct {
	Line    int // in the template, from 1; 0 if unknown
	Message string
	Hint    string // what to write instead, or ""
}

// Error implements error.
func (e *TemplateError) Error() string {
	text := "parsing template: " + e.Text()
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

// Text returns the message with its line, for callers that show the hint separately.
func (e *TemplateError) Text() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Message)
}

const example = `{{ (token "graph").AccessToken }}`

// replacements maps functions of sprig, Helm, Vault and consul-template that people expect to what exists instead.
func replacements() map[string]string {
	instead := map[string]string{}
	for hint, names := range map[string]string{
		"use json":   "tojson tojsonpretty torawjson mustjson mustajson to_json json_encode jsonencode parsejson fromjson toyaml",
		"use base64": "b64enc b64 b64encode base64encode base64_encode tobase64 encode_base64 base64url",
		"use quote":  "squote tostring q dquote",
		"a template sees tokens only; use ${NAME} in the configuration for a variable of the environment": "env expandenv getenv mustenv",
		"write " + example: "secret key with_secret vault access_token accesstoken gettoken get_token tokens lookup var values file",
		"a template has no such function; format the value in the program that reads it": "trim trimspace upper lower title indent nindent default replace split join date now tpl include toupper tolower b64dec base64decode base64_decode sha256sum sprintf",
	} {
		for name := range strings.FieldsSeq(names) {
			instead[name] = hint
		}
	}
	return instead
}

// templateError converts a message of text/template to a TemplateError, with a hint for common mistakes.
func templateError(message, text string) *TemplateError {
	message = strings.TrimPrefix(message, "template: ")
	message = strings.TrimPrefix(message, templateName+":")
	e := &TemplateError{Message: message}
	if m := regexp.MustCompile(`^(\d+)(?::\d+)?: (?s)(.*)$`).FindStringSubmatch(message); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Message = m[2]
	}
	e.Hint = hintFor(e.Message, lineOf(text, e.Line))
	return e
}

func lineOf(text string, number int) string {
	lines := strings.Split(text, "\n")
	if number < 1 || number > len(lines) {
		return ""
	}
	return lines[number-1]
}

func hintFor(message, line string) string {
	if m := regexp.MustCompile(`^function "([^"]+)" not defined`).FindStringSubmatch(message); m != nil {
		return hintForFunction(m[1], line)
	}
	switch {
	case strings.ContainsAny(line, "“”‘’„«»"):
		return `use plain quotes: (token "graph").AccessToken`
	case regexp.MustCompile(`token\s*\(?\s*'`).MatchString(line):
		return `use double quotes: (token "graph").AccessToken`
	case strings.Contains(message, "undefined variable"):
		return "write a token as (token \"graph\").AccessToken; $NAME is a variable of the template's own"
	case strings.Contains(message, "unclosed action"), strings.Contains(message, "unexpected \"}\""), strings.Contains(message, "unterminated"):
		return "each {{ needs its }}, and each quote its other, in the same line, as in " + example
	case regexp.MustCompile(`token\s*\(\s*["` + "`" + `]`).MatchString(line):
		return `a function's argument has no parentheses of its own: (token "graph").AccessToken`
	case regexp.MustCompile(`token\s+["` + "`" + `][^"` + "`" + `]*["` + "`" + `]\s*\.`).MatchString(line):
		return `put it in parentheses: (token "graph").AccessToken`
	case regexp.MustCompile(`token\s*\.`).MatchString(line), strings.Contains(message, "token takes one name"):
		return "write the name in quotes, as in " + example
	case strings.Contains(message, "unexpected EOF"):
		return "each if, with, range and define needs its {{ end }}"
	}
	return ""
}

func hintForFunction(name, line string) string {
	if regexp.MustCompile(`token\s+\(?\s*` + regexp.QuoteMeta(name)).MatchString(line) {
		return fmt.Sprintf("write the name in quotes: (token %q).AccessToken", name)
	}
	folded := strings.ToLower(name)
	for _, known := range []string{"token", "json", "base64", "quote"} {
		if folded == known {
			return "write " + known + ", in lower case"
		}
	}
	if hint := replacements()[folded]; hint != "" {
		return hint
	}
	if hint := replacements()[strings.TrimPrefix(folded, "must")]; hint != "" {
		return hint
	}
	return "there are token, json, base64 and quote, and what text/template has, as in " + example
}

// fieldHint suggests a field with a similar name, or lists the fields.
func fieldHint(name string) string {
	plain := strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name))
	near := map[string]string{
		"accesstoken": "AccessToken", "token": "AccessToken", "value": "AccessToken", "raw": "AccessToken",
		"tokentype": "TokenType", "type": "TokenType", "expireson": "ExpiresOn", "expires": "ExpiresOn", "exp": "ExpiresOn",
		"expiresat": "Expiry", "expiry": "Expiry", "scope": "Scope", "scopes": "Scope", "clientid": "ClientID",
	}
	if field, ok := near[plain]; ok {
		return "did you mean ." + field + "?"
	}
	return "use .AccessToken, .TokenType, .ExpiresOn, .Expiry, .Scope or .ClientID"
}
