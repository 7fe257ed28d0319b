// Package oauth is the wire of OAuth 2.0 as far as a client-credentials client needs it: the form
// of a token request, the meaning of its answer, and a server's metadata. It parses bytes and
// returns values; it sends nothing, waits for nothing and knows nothing of files.
package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/internal/secret"
)

// maxToken bounds an access token, in bytes. Larger ones fit no header.
const maxToken = 128 << 10

// Grant is a successful answer (RFC 6749, 5.1).
type Grant struct {
	AccessToken secret.Value
	TokenType   string
	ExpiresIn   time.Duration // the token's life
	Assumed     bool          // the answer had no usable expires_in
	RefreshIn   time.Duration // when the server wants it replaced; 0 where it does not say
	Scope       string        // the scope granted; "" where it is the scope asked for
}

// wireGrant is the answer as sent; numbers may come as strings.
type wireGrant struct {
	AccessToken string          `json:"access_token"`
	TokenType   string          `json:"token_type"`
	ExpiresIn   json.RawMessage `json:"expires_in"`
	RefreshIn   json.RawMessage `json:"refresh_in"`
	Scope       json.RawMessage `json:"scope"`
}

// UnusableTypeError says that the server issues a kind of token that credagent cannot use
// (RFC 6749, 7.1: a client must not use a token type it does not understand).
type UnusableTypeError struct {
	TokenType string // "" where what the server sent is not a type's name
}

// Error implements error.
func (e *UnusableTypeError) Error() string {
	if e.TokenType == "" {
		return "the token's type is not Bearer"
	}
	return fmt.Sprintf("the token's type is %q, not Bearer", e.TokenType)
}

// ParseGrant reads the body of a 200 answer. Its errors hold nothing of the body but, in an
// [UnusableTypeError], the name of a token type.
func ParseGrant(body []byte) (Grant, error) {
	var wire wireGrant
	if err := json.Unmarshal(body, &wire); err != nil {
		return Grant{}, fmt.Errorf("the answer is not a token answer: %s", notJSON(body))
	}
	if err := checkToken(wire.AccessToken); err != nil {
		return Grant{}, err
	}
	// RFC 6749, 5.1 requires token_type, compared without case; servers that leave it out mean Bearer.
	if wire.TokenType != "" && !strings.EqualFold(wire.TokenType, "Bearer") {
		return Grant{}, &UnusableTypeError{TokenType: typeName(wire.TokenType)}
	}
	grant := Grant{AccessToken: secret.New(wire.AccessToken), TokenType: "Bearer", Scope: scope(wire.Scope)}
	life, known := seconds(wire.ExpiresIn)
	switch {
	case !known:
		grant.ExpiresIn, grant.Assumed = policy.AssumedLife, true
	case life <= 0:
		return Grant{}, errors.New("the token has no life left: expires_in is less than a second")
	default:
		grant.ExpiresIn = life
	}
	grant.RefreshIn, _ = seconds(wire.RefreshIn)
	grant.RefreshIn = max(grant.RefreshIn, 0)
	return grant, nil
}

// checkToken refuses what would break a header, a line or a file further on (RFC 6749, A.12 allows
// visible characters and the space; the space would end the token in an Authorization header).
func checkToken(accessToken string) error {
	switch {
	case accessToken == "":
		return errors.New("the answer holds no access_token")
	case len(accessToken) > maxToken:
		return errors.New("the access_token is longer than 128 KiB")
	}
	for _, c := range []byte(accessToken) {
		if c <= ' ' || c > '~' {
			return errors.New("the access_token holds characters that no header can carry")
		}
	}
	return nil
}

// typeName returns a token type that looks like one (RFC 6749, A.13) and is too short for a token,
// so that an error may show it.
func typeName(tokenType string) string {
	const longest = 20
	odd := func(r rune) bool {
		return !strings.ContainsRune("-._", r) && (r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r))
	}
	if len(tokenType) > longest || strings.ContainsFunc(tokenType, odd) {
		return ""
	}
	return tokenType
}

// scope reads a scope on one line; some servers send a list. It is data, so it is never cut, and
// one that cannot be read does not spoil a good token.
func scope(raw json.RawMessage) string {
	var one string
	var list []string
	switch {
	case json.Unmarshal(raw, &one) == nil:
		return oneLine(one)
	case json.Unmarshal(raw, &list) == nil:
		return oneLine(strings.Join(list, " "))
	}
	return ""
}

// seconds reads a number, or a number in a string, as some servers send it.
func seconds(raw json.RawMessage) (time.Duration, bool) {
	text := strings.TrimSpace(strings.Trim(string(raw), `"`))
	number, err := strconv.ParseFloat(text, 64)
	tooLarge := errors.Is(err, strconv.ErrRange)
	if err != nil && !tooLarge || math.IsNaN(number) || math.IsInf(number, 0) && !tooLarge {
		return 0, false
	}
	if number >= policy.MaxLife.Seconds() {
		return policy.MaxLife, true
	}
	if number <= -policy.MaxLife.Seconds() {
		return -policy.MaxLife, true
	}
	return time.Duration(math.Floor(number)) * time.Second, true
}

// Error is an error answer (RFC 6749, 5.2), with what Entra adds.
type Error struct {
	Code          string // error
	Description   string // error_description, on one line
	URI           string // error_uri
	AADSTS        []int  // error_codes
	TraceID       string
	CorrelationID string
}

type wireError struct {
	Code          json.RawMessage `json:"error"`
	Description   json.RawMessage `json:"error_description"`
	URI           json.RawMessage `json:"error_uri"`
	AADSTS        json.RawMessage `json:"error_codes"`
	TraceID       json.RawMessage `json:"trace_id"`
	CorrelationID json.RawMessage `json:"correlation_id"`
}

// ParseError reads the body of an error answer. ok is false where the body is none; fields that
// cannot be read are empty.
func ParseError(body []byte) (answer Error, ok bool) {
	var wire wireError
	if json.Unmarshal(body, &wire) != nil {
		return Error{}, false
	}
	answer = Error{
		Code:          text(wire.Code),
		Description:   text(wire.Description),
		URI:           text(wire.URI),
		TraceID:       text(wire.TraceID),
		CorrelationID: text(wire.CorrelationID),
	}
	if json.Unmarshal(wire.AADSTS, &answer.AADSTS) != nil || len(answer.AADSTS) > 8 {
		answer.AADSTS = nil
	}
	if len(answer.AADSTS) == 0 {
		answer.AADSTS = aadstsIn(answer.Description)
	}
	return answer, answer.Code != ""
}

func text(raw json.RawMessage) string {
	var value string
	if json.Unmarshal(raw, &value) != nil {
		return ""
	}
	return Printable(value)
}

// aadstsIn finds the number at the head of Entra's descriptions, "AADSTS7000215: …".
func aadstsIn(description string) []int {
	rest, found := strings.CutPrefix(description, "AADSTS")
	if !found {
		return nil
	}
	digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
	number, err := strconv.Atoi(rest[:digits])
	if err != nil {
		return nil
	}
	return []int{number}
}

// notJSON says what an answer looks like without quoting it.
func notJSON(body []byte) string {
	trimmed := bytes.TrimSpace(body)
	switch {
	case len(trimmed) == 0:
		return "it is empty"
	case trimmed[0] == '<':
		return "it looks like a web page"
	case trimmed[0] == '{':
		return "its JSON is broken or its fields are of the wrong type"
	}
	return "it is not a JSON object"
}

// maxPrintable bounds a server's text in logs, in bytes.
const maxPrintable = 600

// Printable makes a server's text fit for a log line: one line, no control characters, bounded.
func Printable(s string) string {
	if len(s) > maxPrintable {
		s = strings.ToValidUTF8(s[:maxPrintable], "") + "…"
	}
	return oneLine(s)
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}
