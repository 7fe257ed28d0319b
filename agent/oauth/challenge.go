package oauth

import (
	"encoding/base64"
	"fmt"
	"strings"
)

const (
	// maxChallenge limits a WWW-Authenticate value, in bytes.
	maxChallenge = 32 << 10
	// insufficientClaims is the error of a claims challenge.
	insufficientClaims = "insufficient_claims"
)

// ChallengeError explains why a WWW-Authenticate value is not a claims challenge. It does not quote the value, which
// may be anything, such as a token sent by mistake.
type ChallengeError struct{ Reason string }

// Error implements error.
func (e *ChallengeError) Error() string { return e.Reason }

// ParseChallenge finds the claims challenge in a WWW-Authenticate value and returns the claims that
// it asks for, as [MergeClaims] writes them. Its errors are of type [*ChallengeError].
func ParseChallenge(wwwAuthenticate string) (claims string, err error) {
	if len(wwwAuthenticate) > maxChallenge {
		return "", &ChallengeError{fmt.Sprintf("it is longer than %d KiB", maxChallenge>>10)}
	}
	all, err := challengesIn(wwwAuthenticate)
	if err != nil {
		return "", err
	}
	reason := "it holds no Bearer challenge"
	for _, c := range all {
		switch {
		case !strings.EqualFold(c.scheme, "Bearer"):
		case c.parameters["error"] != insufficientClaims:
			reason = otherError(c.parameters["error"])
		case c.parameters["claims"] == "":
			reason = "its Bearer challenge has no claims"
		default:
			return decodeClaims(c.parameters["claims"])
		}
	}
	return "", &ChallengeError{reason}
}

// otherError describes another Bearer challenge; it shows the error only if it is a code of RFC 6750, 3.1.
func otherError(code string) string {
	switch code {
	case "":
		return "its Bearer challenge has no error: the resource was asked without a token"
	case "invalid_request", "invalid_token", "insufficient_scope":
		return "its error is " + code + ", not " + insufficientClaims
	}
	return "its error is not " + insufficientClaims
}

// decodeClaims reads the base64 of either alphabet (RFC 4648, 4 and 5), padded or not.
func decodeClaims(text string) (string, error) {
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	data, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return "", &ChallengeError{"its claims are not base64"}
	}
	if err := checkClaims(data); err != nil {
		return "", &ChallengeError{"its claims are " + err.Error()}
	}
	return MergeClaims(string(data)), nil
}

// challenge is one challenge of a WWW-Authenticate value (RFC 9110, 11.3).
type challenge struct {
	scheme     string
	parameters map[string]string // by name in lower case
}

// The separators in a list of challenges. Services omit commas, and a value may have been folded, or consist of
// several header lines.
const (
	whitespace = " \t\r\n"
	separators = whitespace + ","
)

// challengesIn reads a list of challenges (RFC 9110, 11.6.1). It also reads what some services
// send: parameters without a comma between them, and unquoted values with characters that need quotes.
func challengesIn(value string) ([]challenge, error) {
	s := &scanner{text: value}
	var all []challenge
	for s.skip(separators); !s.ended(); s.skip(separators) {
		name := s.take(isTokenCharacter)
		gap := s.skip(whitespace)
		switch {
		case name == "":
			return nil, s.problem("neither a scheme nor a parameter")
		case !s.next('='):
			all = append(all, challenge{scheme: name, parameters: map[string]string{}})
			if gap != "" && !strings.ContainsAny(gap, "\r\n") {
				s.skipToken68()
			}
		case len(all) == 0:
			return nil, s.problem("a parameter before the scheme")
		default:
			if err := s.parameter(strings.ToLower(name), all[len(all)-1].parameters); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// scanner reads a text from left to right.
type scanner struct {
	text string
	at   int
}

func (s *scanner) ended() bool { return s.at == len(s.text) }

func (s *scanner) problem(what string) error {
	return &ChallengeError{fmt.Sprintf("it cannot be read from byte %d on: %s", s.at+1, what)}
}

// take returns the following characters of a kind, and advances past them.
func (s *scanner) take(kind func(c byte) bool) string {
	start := s.at
	for !s.ended() && kind(s.text[s.at]) {
		s.at++
	}
	return s.text[start:s.at]
}

func (s *scanner) skip(characters string) string {
	return s.take(func(c byte) bool { return strings.IndexByte(characters, c) >= 0 })
}

// next advances past a character if it is the next one.
func (s *scanner) next(c byte) bool {
	if s.ended() || s.text[s.at] != c {
		return false
	}
	s.at++
	return true
}

// skipToken68 advances past what a scheme may have instead of parameters (RFC 9110, 11.2).
func (s *scanner) skipToken68() {
	start := s.at
	s.take(isToken68Character)
	end := s.skip("=")
	separated := s.ended() || strings.IndexByte(separators, s.text[s.at]) >= 0
	if after := s.at; separated {
		s.skip(whitespace)
		if end != "" || !s.next('=') {
			s.at = after
			return
		}
	}
	s.at = start // it is the first parameter's name
}

// parameter reads a parameter's value. A duplicate is an error (RFC 9110, 11.2).
func (s *scanner) parameter(name string, parameters map[string]string) error {
	if _, twice := parameters[name]; twice {
		return s.problem("a parameter is there twice")
	}
	s.skip(whitespace)
	if s.next('"') {
		value, err := s.quoted()
		parameters[name] = value
		return err
	}
	parameters[name] = s.take(isUnquotedCharacter)
	if parameters[name] == "" {
		return s.problem("a parameter without a value")
	}
	return nil
}

// quoted reads the rest of a quoted string (RFC 9110, 5.6.4).
func (s *scanner) quoted() (string, error) {
	var value strings.Builder
	for ; !s.ended(); s.at++ {
		c := s.text[s.at]
		if c == '"' {
			s.at++
			return value.String(), nil
		}
		if c == '\\' && s.at+1 < len(s.text) {
			s.at++
			c = s.text[s.at]
		}
		if c < ' ' && c != '\t' || c == '\x7f' {
			return "", s.problem("a control character in a quoted string")
		}
		value.WriteByte(c)
	}
	return "", s.problem("a quoted string has no end")
}

// isTokenCharacter reports whether a character may be in a token (RFC 9110, 5.6.2).
func isTokenCharacter(c byte) bool {
	return isAlphanumeric(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

func isToken68Character(c byte) bool { return isAlphanumeric(c) || strings.IndexByte("-._~+/", c) >= 0 }

func isUnquotedCharacter(c byte) bool { return c > ' ' && c <= '~' && c != ',' && c != '"' }

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
