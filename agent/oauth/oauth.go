// Package oauth implements the wire formats of OAuth 2.0 that a client without a user needs: the form of a token request, its
// answer, and a server's metadata. It parses bytes and returns values; it sends nothing, waits for nothing and knows
// nothing of files.
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
	"github.com/credagent/credagent/internal/printable"
	"github.com/credagent/credagent/internal/secret"
)

// maxToken limits an access token, in bytes. Larger ones do not fit in a header.
const maxToken = 128 << 10

// Grant is a successful answer (RFC 6749, 5.1).
type Grant struct {
	AccessToken secret.Value
	TokenType   string
	ExpiresIn   time.Duration // the token's lifetime
	Assumed     bool          // the answer had no usable expires_in
	Ended       bool          // the answer says that the token has already expired
	Odd         string        // what was wrong with expires_in; "" for nothing
	RefreshIn   time.Duration // when the server wants it replaced; 0 if it does not say
	Scope       string        // the scope granted; "" if it is the requested scope
}

// wireGrant is the answer as sent; numbers may be strings, and unused fields may have any type.
type wireGrant struct {
	AccessToken string          `json:"access_token"`
	TokenType   json.RawMessage `json:"token_type"`
	ExpiresIn   json.RawMessage `json:"expires_in"`
	RefreshIn   json.RawMessage `json:"refresh_in"`
	Scope       json.RawMessage `json:"scope"`
	IssuedType  json.RawMessage `json:"issued_token_type"` // RFC 8693, 2.2.1
}

// UnusableTypeError means that the server issues a kind of token that credagent cannot use
// (RFC 6749, 7.1: a client must not use a token type it does not understand).
type UnusableTypeError struct {
	TokenType string // "" if the server's value is not a type name
}

// Error implements error.
func (e *UnusableTypeError) Error() string {
	if e.TokenType == "" {
		return "the token's type is not Bearer"
	}
	return fmt.Sprintf("the token's type is %q, not Bearer", e.TokenType)
}

// ParseGrant reads the body of a success answer that arrived at an instant. Its errors contain nothing of the body,
// except the name of a token type in an [UnusableTypeError].
func ParseGrant(body []byte, at time.Time) (Grant, error) {
	wire, err := decodeGrant(body)
	if err != nil {
		return Grant{}, err
	}
	if err := checkToken(wire.AccessToken); err != nil {
		return Grant{}, err
	}
	// RFC 6749, 5.1 requires token_type, which is case-insensitive; servers that omit it mean Bearer.
	var tokenType string
	if json.Unmarshal(wire.TokenType, &tokenType) == nil && !isBearer(tokenType) && !wire.exchanged(tokenType) {
		return Grant{}, &UnusableTypeError{TokenType: typeName(tokenType)}
	}
	grant := Grant{AccessToken: secret.New(wire.AccessToken), TokenType: "Bearer", Scope: scope(wire.Scope)}
	if life, known := seconds(wire.ExpiresIn); known && life < -time.Second { // -1 means no expiry, like 0
		return Grant{}, errors.New("the token has no life left: expires_in is less than a second")
	}
	grant.live(wire.ExpiresIn, at)
	grant.RefreshIn, _ = seconds(wire.RefreshIn)
	grant.RefreshIn = min(max(grant.RefreshIn, 0), policy.MaxLife)
	return grant, nil
}

// exchanged reports whether an exchange issued a token that is not an access token, such as an ID token: its
// token_type is then N_A (RFC 8693, 2.2.1).
func (w wireGrant) exchanged(tokenType string) bool {
	var issued string
	_ = json.Unmarshal(w.IssuedType, &issued)
	return tokenType == "N_A" && issued != "" && issued != accessTokenType
}

// accessTokenType is the type of an access token (RFC 8693, 3).
const accessTokenType = "urn:ietf:params:oauth:token-type:access_token"

// decodeGrant reads JSON, as RFC 6749 requires, or a form, as some servers send.
func decodeGrant(body []byte) (wireGrant, error) {
	body = bytes.TrimPrefix(bytes.TrimSpace(body), byteOrderMark)
	var wire wireGrant
	if json.Unmarshal(body, &wire) == nil {
		return wire, nil
	}
	form, ok := formObject(body)
	if !ok || bytes.ContainsAny(body, "{<") {
		return wireGrant{}, fmt.Errorf("the answer is not a token answer: %s", notJSON(body))
	}
	data, err := json.Marshal(form)
	if err != nil || json.Unmarshal(data, &wire) != nil {
		return wireGrant{}, errors.New("the answer is not a token answer: its form is broken")
	}
	return wire, nil
}

// isBearer accepts the spellings of Bearer, such as Apigee's BearerToken, and an empty type.
func isBearer(tokenType string) bool {
	switch strings.ToLower(strings.NewReplacer(" ", "", "_", "", "-", "").Replace(strings.TrimSpace(tokenType))) {
	case "", "bearer", "bearertoken":
		return true
	}
	return false
}

// live reads expires_in. It detects values that cannot be a lifetime: some servers send the instant of expiry,
// milliseconds, or 0 for a token that does not expire. In doubt the shorter lifetime is safer.
func (g *Grant) live(raw json.RawMessage, at time.Time) {
	const year = 365 * 24 * time.Hour
	life, known := seconds(raw)
	left := time.Duration(0)
	if known {
		left = untilInstant(raw, at)
	}
	switch {
	case !known:
		g.ExpiresIn, g.Assumed = policy.AssumedLife, true
		if len(raw) > 0 && string(raw) != "null" {
			g.Odd = "expires_in is not a number"
		}
	case life <= 0:
		g.ExpiresIn, g.Assumed, g.Ended, g.Odd = policy.AssumedLife, true, true, "expires_in is less than a second"
	case left > 0:
		g.ExpiresIn, g.Odd = left, "expires_in is the instant of the end, not a number of seconds"
	case isMilliseconds(life, year):
		g.ExpiresIn, g.Odd = max(life/1000, time.Second).Truncate(time.Second), "expires_in looks like milliseconds, not seconds"
	case life > policy.MaxLife:
		g.ExpiresIn, g.Odd = policy.MaxLife, "expires_in is more than ten years"
	default:
		g.ExpiresIn = life
	}
}

// untilInstant reads a number as an instant, in Unix seconds or milliseconds, if it is within the maximum lifetime;
// else it returns 0.
func untilInstant(raw json.RawMessage, at time.Time) time.Duration {
	number, err := strconv.ParseFloat(strings.TrimSpace(strings.Trim(string(raw), `"`)), 64)
	if err != nil {
		return 0
	}
	for _, unit := range []float64{1, 1000} {
		left := math.Floor(number/unit - float64(at.Unix()))
		if left >= 1 && left <= policy.MaxLife.Seconds() {
			return time.Duration(left) * time.Second
		}
	}
	return 0
}

// isMilliseconds reports whether a number of seconds is more likely to be milliseconds: twelve days or more in whole
// thousands, but not in whole days, or above a year not in whole years.
func isMilliseconds(life, year time.Duration) bool {
	const least, day = 1_000_000 * time.Second, 24 * time.Hour
	whole := day
	if life > year+day {
		whole = year
	}
	return life >= least && life%(1000*time.Second) == 0 && life%whole != 0
}

// checkToken refuses a token that would break a header, a line or a file later (RFC 6749, A.12 allows
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

// typeName returns a token type that is valid (RFC 6749, A.13) and too short to be a token, so that an error may show
// it.
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

// scope reads a scope on one line; some servers send a list. It is data, so it is never cut, and an unreadable one
// does not invalidate a good token.
func scope(raw json.RawMessage) string {
	var one string
	var list []string
	switch {
	case json.Unmarshal(raw, &one) == nil:
		return printable.Line(one)
	case json.Unmarshal(raw, &list) == nil:
		return printable.Line(strings.Join(list, " "))
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
	const most = float64(math.MaxInt64 / int64(time.Second))
	return time.Duration(math.Floor(min(max(number, -most), most))) * time.Second, true
}

// Error is an error answer (RFC 6749, 5.2), with what Entra adds.
type Error struct {
	Code          string // error
	Description   string // error_description, on one line
	URI           string // error_uri
	AADSTS        []int  // error_codes
	TraceID       string
	CorrelationID string
	Claims        string // a claims request that the next request must carry; "" for none
}

type wireError struct {
	Code          json.RawMessage `json:"error"`
	Description   json.RawMessage `json:"error_description"`
	URI           json.RawMessage `json:"error_uri"`
	AADSTS        json.RawMessage `json:"error_codes"`
	TraceID       json.RawMessage `json:"trace_id"`
	CorrelationID json.RawMessage `json:"correlation_id"`
	Claims        json.RawMessage `json:"claims"`
}

// ParseError reads the body of an error answer, JSON or a form. ok is false if it contains no OAuth error; the
// description is then the server's text from its own format. Unreadable fields are empty.
func ParseError(body []byte) (answer Error, ok bool) {
	body = bytes.TrimPrefix(bytes.TrimSpace(body), byteOrderMark)
	value, readable := decodeObject(body)
	if !readable {
		form, isForm := formObject(body)
		if !isForm {
			return Error{}, false
		}
		value = form
		body, _ = json.Marshal(form)
	}
	var wire wireError
	_ = json.Unmarshal(body, &wire) // a list has no fields
	answer = Error{
		Code:          errorCode(text(wire.Code)),
		Description:   text(wire.Description),
		URI:           text(wire.URI),
		TraceID:       text(wire.TraceID),
		CorrelationID: text(wire.CorrelationID),
		Claims:        claimsIn(wire.Claims),
	}
	var other refusal
	other.read(value, 0)
	if code := other.code(); code != "" && (answer.Code == "" || knownCode(answer.Code) == "") {
		if answer.Description == "" {
			answer.Description = answer.Code // a sentence instead of a code
		}
		answer.Code = code
	}
	if answer.Description == "" {
		answer.Description = other.text(answer.Code)
	}
	if json.Unmarshal(wire.AADSTS, &answer.AADSTS) != nil || len(answer.AADSTS) > 8 {
		answer.AADSTS = nil
	}
	if len(answer.AADSTS) == 0 {
		answer.AADSTS = aadstsIn(answer.Description)
	}
	return answer, answer.Code != ""
}

// claimsIn reads the claims in an error, which Entra wants in the next request.
func claimsIn(raw json.RawMessage) string {
	var request string
	if json.Unmarshal(raw, &request) != nil || checkClaims([]byte(request)) != nil {
		return ""
	}
	return MergeClaims(request)
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

// notJSON describes what an answer looks like without quoting it.
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

// maxPrintable limits a server's text in logs, in bytes.
const maxPrintable = 600

// Printable makes a server's text safe for a log line: one line, no control characters, limited in length, and
// without anything that looks like a token.
func Printable(s string) string {
	return printable.Text(hideTokens(s), maxPrintable)
}
