package devserver_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
)

// TestTokenIsJWT reads a token as clients do that want to know when theirs ends.
func TestTokenIsJWT(t *testing.T) {
	server := start(t, devserver.Options{TTL: time.Minute, JWT: true, Clients: []devserver.Client{appClient()}})
	accessToken := mustPost(t, server.TokenURL(), form()).text("access_token")
	parts := strings.Split(accessToken, ".")
	if len(parts) != 3 || !server.Valid(accessToken) {
		t.Fatalf("the token has %d parts, want the three of a JWT, and to be valid", len(parts))
	}
	content, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Issuer  string `json:"iss"`
		Subject string `json:"sub"`
		Scope   string `json:"scope"`
		Expiry  int64  `json:"exp"`
	}
	if err := json.Unmarshal(content, &claims); err != nil {
		t.Fatal(err)
	}
	if claims.Issuer != server.URL() || claims.Subject != appID || claims.Scope != "read" {
		t.Errorf("the token says %+v", claims)
	}
	if left := time.Until(time.Unix(claims.Expiry, 0)); left > time.Minute || left < 30*time.Second {
		t.Errorf("the token says that it has %s to live, want a minute", left)
	}
}
