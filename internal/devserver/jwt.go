package devserver

import (
	"encoding/base64"
	"encoding/json"
)

// inJWT puts the random part of an access token into a JWT (RFC 9068, 2), for clients that read its expiry. There is
// no key to verify it: its signature is random too.
func inJWT(issuer, random string, g grant) string {
	header := jwtPart(map[string]any{"typ": "at+jwt", "alg": "ES256"})
	claims := map[string]any{
		"iss": issuer, "sub": g.client, "client_id": g.client, "scope": g.scope,
		"iat": g.issued.Unix(), "exp": g.expiry.Unix(), "jti": random,
	}
	if g.agent != "" {
		claims["sub"], claims["aud"] = "/eid1/c/pub/t/tenant/a/"+g.client+"/"+g.agent, exchangeAudience
	}
	return header + "." + jwtPart(claims) + "." + random
}

func jwtPart(fields map[string]any) string {
	text, _ := json.Marshal(fields) // strings and numbers: never fails
	return base64.RawURLEncoding.EncodeToString(text)
}
