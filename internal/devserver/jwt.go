package devserver

import (
	"encoding/base64"
	"encoding/json"
)

// inJWT puts what is random about an access token into a JWT (RFC 9068, 2), for clients that want
// to read when theirs ends. Nobody is given a key to check it with: its signature is as random.
func inJWT(issuer, random string, g grant) string {
	header := jwtPart(map[string]any{"typ": "at+jwt", "alg": "ES256"})
	claims := jwtPart(map[string]any{
		"iss": issuer, "sub": g.client, "client_id": g.client, "scope": g.scope,
		"iat": g.issued.Unix(), "exp": g.expiry.Unix(), "jti": random,
	})
	return header + "." + claims + "." + random
}

func jwtPart(fields map[string]any) string {
	text, _ := json.Marshal(fields) // strings and numbers: never fails
	return base64.RawURLEncoding.EncodeToString(text)
}
