package assertion

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/credagent/credagent/internal/secret"
)

// JWT is a JSON Web Token (RFC 7519), and what it says of itself, for people to see: nothing of it is
// verified.
type JWT struct {
	Value     secret.Value
	Subject   string    // "" where it does not say
	NotBefore time.Time // when its life began; zero where it does not say, or says what is no instant
	NotAfter  time.Time // when it expires; zero likewise
}

// readJWT reads the claims without verifying them: whether an assertion is good, and which
// algorithms are, is the server's to judge. But what is not an assertion at all, such as a key in its
// place, must not reach the server.
func readJWT(value secret.Value) (JWT, error) {
	parts := strings.Split(value.Reveal(), ".")
	if len(parts) != signedParts && len(parts) != encryptedParts {
		return JWT{}, errNoJWT()
	}
	for i, part := range parts {
		// Of an encrypted one, the key's part may be empty (RFC 7516, 5.1).
		if !isBase64(part) || part == "" && (len(parts) != encryptedParts || i != 1) {
			return JWT{}, errNoJWT()
		}
	}
	var header struct {
		Algorithm string `json:"alg"`
	}
	if !decode(parts[0], &header) || header.Algorithm == "" || strings.EqualFold(header.Algorithm, "none") {
		return JWT{}, errNoJWT()
	}
	if len(parts) == encryptedParts {
		return JWT{Value: value}, nil // its claims are for the server alone
	}
	var payload struct {
		Subject   any `json:"sub"`
		Expiry    any `json:"exp"`
		IssuedAt  any `json:"iat"`
		NotBefore any `json:"nbf"`
	}
	if !decode(parts[1], &payload) {
		return JWT{}, errNoJWT()
	}
	jwt := JWT{Value: value, NotBefore: instant(payload.IssuedAt), NotAfter: instant(payload.Expiry)}
	jwt.Subject, _ = payload.Subject.(string)
	if jwt.NotBefore.IsZero() {
		jwt.NotBefore = instant(payload.NotBefore)
	}
	return jwt, nil
}

// The parts of a JWT that is signed (RFC 7515, 7.1) and of one that is encrypted (RFC 7516, 7.1).
const (
	signedParts    = 3
	encryptedParts = 5
)

func errNoJWT() error { return errors.New("it is not a signed JWT") }

func isBase64(part string) bool {
	_, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && !strings.ContainsAny(part, "\r\n")
}

// decode reads a JSON object out of a part.
func decode(part string, into any) bool {
	data, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(data, into) == nil && len(data) > 0 && bytes.HasPrefix(bytes.TrimSpace(data), []byte("{"))
}

// instant reads a NumericDate (RFC 7519, 2), also one in a string, as some issuers write it.
func instant(claim any) time.Time {
	seconds, ok := claim.(float64)
	if text, inString := claim.(string); inString {
		parsed, err := strconv.ParseFloat(text, 64)
		seconds, ok = parsed, err == nil
	}
	if !ok || !(seconds > 0 && seconds < latest) {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}

// latest is the end of the year 9999, the last that a date can express.
const latest = 253402300800
