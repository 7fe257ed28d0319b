package signals

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/credagent/credagent/internal/printable"
	"github.com/go-jose/go-jose/v4"
)

// maxSET bounds a SET, in bytes.
const maxSET = 64 << 10

// setError is why a SET is refused, as the transmitter is told (RFC 8935, 2.4; OpenID SSF 1.0, 8.1.4.2).
type setError struct {
	Code        string `json:"err"`
	Description string `json:"description"`
}

// Error implements error.
func (e *setError) Error() string { return e.Code + ": " + e.Description }

// The codes of setError.
const (
	codeRequest  = "invalid_request"
	codeKey      = "invalid_key"
	codeIssuer   = "invalid_issuer"
	codeAudience = "invalid_audience"
	codeState    = "invalid_state"
)

func refuse(code, format string, args ...any) error {
	return &setError{code, fmt.Sprintf(format, args...)}
}

// errUnknownKey says that a SET names a key that the transmitter did not have when it was asked last.
var errUnknownKey = errors.New("its key is not known")

// set is a security event token that was checked (RFC 8417).
type set struct {
	jti     string
	event   string    // the type's URI
	at      time.Time // when it happened, by the transmitter's clock
	subject subject
	payload payload
}

// expected is what a SET must have.
type expected struct {
	issuer   string
	audience []string // any of them
}

// claims are the JWT's (RFC 8417, 2.2; OpenID SSF 1.0, 4.1). What is not here is ignored.
type claims struct {
	Issuer   string                     `json:"iss"`
	Audience texts                      `json:"aud"`
	JTI      string                     `json:"jti"`
	IssuedAt json.Number                `json:"iat"`
	Event    json.Number                `json:"toe"`
	Sub      json.RawMessage            `json:"sub"`
	Expiry   json.RawMessage            `json:"exp"`
	Subject  json.RawMessage            `json:"sub_id"`
	Events   map[string]json.RawMessage `json:"events"`
}

// texts is a JSON string or a list of them.
type texts []string

// UnmarshalJSON implements [json.Unmarshaler].
func (t *texts) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*t = texts{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(t))
}

// readSET checks a SET that came under a jti. Its error is a *setError, or errUnknownKey.
func readSET(raw, jti string, known keys, want expected) (set, error) {
	if len(raw) > maxSET {
		return set{}, refuse(codeRequest, "it is longer than %d bytes", maxSET)
	}
	signed, err := jose.ParseSignedCompact(raw, algorithms())
	var alg *jose.ErrUnexpectedSignatureAlgorithm
	switch {
	case errors.As(err, &alg):
		return set{}, refuse(codeKey, "its algorithm is not one of %s", strings.Join(algorithmNames(), ", "))
	case err != nil:
		return set{}, refuse(codeRequest, "it is no JWS in compact form")
	}
	header := signed.Signatures[0].Protected
	// RFC 8417, 2.3: what is signed for another purpose must not be taken for an event.
	kind, _ := header.ExtraHeaders[jose.HeaderType].(string)
	if kind = strings.ToLower(kind); strings.TrimPrefix(kind, "application/") != "secevent+jwt" {
		return set{}, refuse(codeRequest, "its typ is not secevent+jwt")
	}
	plain, err := known.verify(signed, header.KeyID, header.Algorithm)
	if err != nil {
		return set{}, err
	}
	return readClaims(plain, jti, want)
}

func readClaims(plain []byte, jti string, want expected) (set, error) {
	var c claims
	if json.Unmarshal(plain, &c) != nil {
		return set{}, refuse(codeRequest, "its claims are not those of a SET")
	}
	switch {
	case c.Issuer != want.issuer:
		return set{}, refuse(codeIssuer, "its iss is not the stream's")
	case !slices.ContainsFunc(c.Audience, func(aud string) bool { return slices.Contains(want.audience, aud) }):
		return set{}, refuse(codeAudience, "its aud is not the stream's")
	case c.JTI == "" || c.JTI != jti:
		return set{}, refuse(codeRequest, "its jti is not the one that it came under")
	case len(c.JTI) > maxJTI || printable.Line(c.JTI) != c.JTI:
		return set{}, refuse(codeRequest, "its jti is not a text of at most %d printable characters", maxJTI)
	case c.Sub != nil:
		return set{}, refuse(codeRequest, "it has a sub, which SSF forbids")
	case c.Expiry != nil:
		return set{}, refuse(codeRequest, "it has an exp, which SSF forbids")
	case len(c.Events) != 1:
		return set{}, refuse(codeRequest, "it has %d events, not one", len(c.Events))
	}
	issued, ok := instant(c.IssuedAt)
	if !ok {
		return set{}, refuse(codeRequest, "its iat is not an instant")
	}
	about, ok := readSubject(c.Subject)
	if !ok {
		return set{}, refuse(codeRequest, "its sub_id is not a subject")
	}
	s := set{jti: c.JTI, at: issued, subject: about}
	for uri, body := range c.Events {
		s.event, s.payload = uri, readPayload(body)
	}
	for _, happened := range []json.Number{c.Event, s.payload.Timestamp} {
		if at, ok := instant(happened); ok {
			s.at = at
		}
	}
	return s, nil
}

// maxJTI bounds a jti, in bytes.
const maxJTI = 1 << 10

// algorithms are those of the CAEP interoperability profile, and what is as good: neither none nor one for
// which the public key would be a secret.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	}
}

func algorithmNames() []string {
	var names []string
	for _, alg := range algorithms() {
		names = append(names, string(alg))
	}
	return names
}
