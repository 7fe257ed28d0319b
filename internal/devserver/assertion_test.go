package devserver_test

import (
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/internal/devserver"
)

func TestSigningAlgorithms(t *testing.T) {
	server := start(t, devserver.Options{})
	pairs := map[devserver.KeyKind]keyPair{}
	for _, kind := range []devserver.KeyKind{devserver.KeyRSA, devserver.KeyEC, devserver.KeyEC384, devserver.KeyEd25519} {
		pairs[kind] = newKeyPair(t, kind, time.Hour)
	}
	tests := []struct {
		kind devserver.KeyKind
		alg  string
		good bool
	}{
		{devserver.KeyRSA, "RS256", true},
		{devserver.KeyRSA, "PS256", true},
		{devserver.KeyEC, "ES256", true},
		{devserver.KeyEC384, "ES384", true},
		{devserver.KeyEd25519, "EdDSA", true},
		{devserver.KeyRSA, "ES256", false},
		{devserver.KeyEC, "ES384", false},
		{devserver.KeyEC384, "ES256", false},
		{devserver.KeyEd25519, "none", false},
	}
	for _, tt := range tests {
		t.Run(string(tt.kind)+" "+tt.alg, func(t *testing.T) {
			pair := pairs[tt.kind]
			server.SetClient(devserver.Client{ID: appID, PublicKeys: map[string]crypto.PublicKey{"k1": pair.key.Public()}})
			jwt := signJWT(t, pair.key, members{"alg": tt.alg, "kid": "k1"}, goodClaims(server.TokenURL(), t.Name()))
			if got := mustPost(t, server.TokenURL(), assertionForm(jwt)); (got.status == 200) != tt.good {
				t.Errorf("answer = %d %s", got.status, got.body)
			}
		})
	}
}

// headerCases are headers of assertions that pair signs, and whether a server that has pair's
// certificate should believe them.
func headerCases(pair, other keyPair) map[string]struct {
	header members
	good   bool
} {
	sum := sha256.Sum256(pair.cert.Raw)
	der, otherDER := base64.StdEncoding.EncodeToString(pair.cert.Raw), base64.StdEncoding.EncodeToString(other.cert.Raw)
	return map[string]struct {
		header members
		good   bool
	}{
		"no name at all":           {members{}, true},
		"x5t#S256":                 {members{"x5t#S256": thumbprint(pair.cert)}, true},
		"x5t#S256 of another":      {members{"x5t#S256": thumbprint(other.cert)}, false},
		"x5t":                      {members{"x5t": thumbprintSHA1(pair.cert)}, true},
		"x5t of another":           {members{"x5t": thumbprintSHA1(other.cert)}, false},
		"x5t#S256 and another x5t": {members{"x5t#S256": thumbprint(pair.cert), "x5t": thumbprintSHA1(other.cert)}, false},
		"x5c":                      {members{"x5c": []string{der, otherDER}}, true},
		"x5c of another":           {members{"x5c": []string{otherDER}}, false},
		"kid is the thumbprint":    {members{"kid": hex.EncodeToString(sum[:])}, true},
		"kid is registered":        {members{"kid": "registered", "x5t#S256": thumbprint(pair.cert)}, true},
		"kid is unknown":           {members{"kid": "unknown"}, false},
		"kid of a bare key, x5t":   {members{"kid": "bare", "x5t": thumbprintSHA1(other.cert)}, false},
		"crit":                     {members{"crit": []string{"exp"}}, false},
	}
}

func TestAssertionHeader(t *testing.T) {
	server := start(t, devserver.Options{})
	pair, other, bare := newKeyPair(t, devserver.KeyEC, time.Hour), newKeyPair(t, devserver.KeyEC, time.Hour), newKeyPair(t, devserver.KeyEC, time.Hour)
	server.SetClient(devserver.Client{
		ID:           appID,
		Certificates: pairCerts(pair),
		PublicKeys:   map[string]crypto.PublicKey{"registered": pair.key.Public(), "bare": bare.key.Public()},
	})
	for name, tt := range headerCases(pair, other) {
		t.Run(name, func(t *testing.T) {
			jwt := signJWT(t, pair.key, tt.header.with(members{"alg": "ES256"}), goodClaims(server.TokenURL(), t.Name()))
			got := mustPost(t, server.TokenURL(), assertionForm(jwt))
			if (got.status == 200) != tt.good || (!tt.good && got.text("error") != "invalid_client") {
				t.Errorf("answer = %d %s", got.status, got.body)
			}
		})
	}
}

func TestAssertionClaims(t *testing.T) {
	server := start(t, devserver.Options{Clients: []devserver.Client{{ID: "other"}}})
	pair := newKeyPair(t, devserver.KeyEC, time.Hour)
	server.SetClient(devserver.Client{ID: appID, Certificates: pairCerts(pair)})
	now := time.Now().Unix()
	tests := []struct {
		name   string
		claims members
		want   string // part of the description; "" for success
	}{
		{"as it should be", members{}, ""},
		{"aud is the issuer", members{"aud": server.URL()}, ""},
		{"aud is one of several", members{"aud": []string{"https://elsewhere", server.TokenURL()}}, ""},
		{"exp has a fraction", members{"exp": float64(now) + 60.5}, ""},
		{"no nbf, no iat", members{"nbf": nil, "iat": nil}, ""},
		{"clock a little ahead", members{"iat": now + 3, "nbf": now + 3}, ""},
		{"aud elsewhere", members{"aud": "https://elsewhere/token"}, "aud"},
		{"no aud", members{"aud": nil}, "aud"},
		{"aud is a number", members{"aud": 7}, "malformed"},
		{"other tenant's endpoint", members{"aud": server.URL() + "/tenant/token"}, "aud"},
		{"expired", members{"exp": now - 1}, "expired"},
		{"no exp", members{"exp": nil}, "no exp"},
		{"exp is text", members{"exp": "soon"}, "malformed"},
		{"exp far away", members{"exp": now + 86400}, "more than"},
		{"exp absurd", members{"exp": 1e300}, "more than"},
		{"nbf in the future", members{"nbf": now + 60}, "nbf"},
		{"iat in the future", members{"iat": now + 60}, "iat"},
		{"no jti", members{"jti": nil}, "jti"},
		{"sub is another", members{"sub": "other"}, "sub"},
		{"iss is another", members{"iss": "other"}, "no issuer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			claims := goodClaims(server.TokenURL(), t.Name()).with(tt.claims)
			got := mustPost(t, server.TokenURL(), assertionForm(signJWT(t, pair.key, members{"alg": "ES256"}, claims)))
			if tt.want == "" && got.status != 200 {
				t.Fatalf("answer = %d %s", got.status, got.body)
			}
			if tt.want != "" && (got.status != 401 || !strings.Contains(got.text("error_description"), tt.want)) {
				t.Errorf("answer = %d %s, want 401 and %q", got.status, got.body, tt.want)
			}
		})
	}
}

func TestAssertionParameters(t *testing.T) {
	server := start(t, devserver.Options{})
	pair := newKeyPair(t, devserver.KeyEC, time.Hour)
	server.SetClient(devserver.Client{ID: appID, Certificates: pairCerts(pair)})
	good := func(id string) string {
		return signJWT(t, pair.key, members{"alg": "ES256"}, goodClaims(server.TokenURL(), id))
	}
	without := func(values url.Values, name string) url.Values { values.Del(name); return values }
	typed := assertionForm(good("5"))
	typed.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer")
	both := assertionForm(good("6"))
	both.Set("client_secret", appSecret)
	tests := []struct {
		name   string
		form   url.Values
		status int
		error  string
	}{
		{"no client_id", without(assertionForm(good("1")), "client_id"), 200, ""},
		{"no type", without(assertionForm(good("2")), "client_assertion_type"), 400, "invalid_request"},
		{"no assertion", without(assertionForm(good("3")), "client_assertion"), 400, "invalid_request"},
		{"other type", typed, 401, "invalid_client"},
		{"with a secret", both, 400, "invalid_request"},
		{"not a JWT", assertionForm("x"), 401, "invalid_client"},
		{"no base64", assertionForm("!.!.!"), 401, "invalid_client"},
		{"another's signature", assertionForm(signedPart(good("7")) + "." + signaturePart(good("8"))), 401, "invalid_client"},
		{"short signature", assertionForm(signedPart(good("10")) + ".AAAA"), 401, "invalid_client"},
		{"padded signature", assertionForm(good("9") + "="), 401, "invalid_client"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := mustPost(t, server.TokenURL(), tt.form); got.status != tt.status || got.text("error") != tt.error {
				t.Errorf("answer = %d %s, want %d %s", got.status, got.body, tt.status, tt.error)
			}
		})
	}
}

// A server that let the header choose would take its public key for an HMAC key.
func TestSymmetricAlgorithmIsRefused(t *testing.T) {
	server := start(t, devserver.Options{})
	pair := newKeyPair(t, devserver.KeyRSA, time.Hour)
	server.SetClient(devserver.Client{ID: appID, Certificates: pairCerts(pair)})
	jwt := signJWT(t, pair.key, members{"alg": "HS256"}, goodClaims(server.TokenURL(), "1"))
	signed := signedPart(jwt)
	mac := hmac.New(sha256.New, pair.cert.RawSubjectPublicKeyInfo)
	mac.Write([]byte(signed))
	for name, signature := range map[string]string{"HMAC": b64(mac.Sum(nil)), "RSA": signaturePart(jwt), "empty": ""} {
		if got := mustPost(t, server.TokenURL(), assertionForm(signed+"."+signature)); got.status != 401 {
			t.Errorf("%s: answer = %d", name, got.status)
		}
	}
}

func TestReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := inMemory(t, devserver.Options{})
		pair := newKeyPair(t, devserver.KeyEC, time.Hour)
		server.SetClient(devserver.Client{ID: appID, Certificates: pairCerts(pair)})
		jwt := signJWT(t, pair.key, members{"alg": "ES256"}, goodClaims(server.TokenURL(), "once"))
		first := mustDo(t, client, newRequest(t, server.TokenURL(), assertionForm(jwt)))
		second := mustDo(t, client, newRequest(t, server.TokenURL(), assertionForm(jwt)))
		if first.status != 200 || second.status != 401 || !strings.Contains(second.text("error_description"), "used before") {
			t.Errorf("answers = %d, then %d %s", first.status, second.status, second.body)
		}
		pass(299 * time.Second)
		again := signJWT(t, pair.key, members{"alg": "ES256"}, goodClaims(server.TokenURL(), "once"))
		if got := mustDo(t, client, newRequest(t, server.TokenURL(), assertionForm(again))); got.status != 401 {
			t.Errorf("the same jti in another assertion got %d", got.status)
		}
		pass(2 * time.Second)
		later := signJWT(t, pair.key, members{"alg": "ES256"}, goodClaims(server.TokenURL(), "once"))
		if got := mustDo(t, client, newRequest(t, server.TokenURL(), assertionForm(later))); got.status != 200 {
			t.Errorf("a jti of an assertion that has expired got %d %s", got.status, got.body)
		}
	})
}

func TestRotatedCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := inMemory(t, devserver.Options{})
		before, after := newKeyPair(t, devserver.KeyEC, time.Hour), newKeyPair(t, devserver.KeyEC, 24*time.Hour)
		count := 0
		ask := func(pair keyPair) int {
			count++
			jwt := signJWT(t, pair.key, members{"alg": "ES256", "x5t#S256": thumbprint(pair.cert)}, goodClaims(server.TokenURL(), fmt.Sprint(count)))
			return mustDo(t, client, newRequest(t, server.TokenURL(), assertionForm(jwt))).status
		}
		server.SetClient(devserver.Client{ID: appID, Certificates: pairCerts(before)})
		if got := ask(before); got != 200 {
			t.Errorf("the old certificate got %d", got)
		}
		if got := ask(after); got != 401 {
			t.Errorf("a certificate not yet registered got %d", got)
		}
		server.SetClient(devserver.Client{ID: appID, Certificates: pairCerts(before, after)})
		if got := ask(after); got != 200 {
			t.Errorf("the new certificate got %d", got)
		}
		sum := sha256.Sum256(after.cert.Raw)
		if got := lastRequest(t, server); got.KeyID != hex.EncodeToString(sum[:]) || got.AuthMethod != "private_key_jwt" {
			t.Errorf("log = %+v", got)
		}
		pass(time.Hour + time.Second)
		if got := ask(before); got != 401 {
			t.Errorf("an expired certificate got %d", got)
		}
	})
}

func TestEntraAssertion(t *testing.T) {
	server := start(t, devserver.Options{})
	pair := newKeyPair(t, devserver.KeyRSA, time.Hour)
	server.SetClient(devserver.Client{ID: appID, Certificates: pairCerts(pair)})
	endpoint := server.URL() + "/contoso/oauth2/v2.0/token"
	tests := []struct {
		name   string
		header members
		aud    string
		number float64 // 0 for success
	}{
		{"endpoint", members{"x5t#S256": thumbprint(pair.cert)}, endpoint, 0},
		{"issuer", members{"x5t": thumbprintSHA1(pair.cert)}, server.URL() + "/contoso/v2.0", 0},
		{"other tenant", members{"x5t": thumbprintSHA1(pair.cert)}, server.URL() + "/fabrikam/v2.0", 700023},
		{"no key named", members{}, endpoint, 700027},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			values := assertionForm(signJWT(t, pair.key, tt.header.with(members{"alg": "PS256"}), goodClaims(tt.aud, t.Name())))
			values.Set("scope", "https://graph.microsoft.com/.default")
			got := mustPost(t, endpoint, values)
			if tt.number == 0 && got.status != 200 {
				t.Fatalf("answer = %d %s", got.status, got.body)
			}
			codes, _ := got.fields["error_codes"].([]any)
			if tt.number != 0 && (len(codes) != 1 || codes[0] != tt.number) {
				t.Errorf("answer = %d %s, want %.0f", got.status, got.body, tt.number)
			}
		})
	}
}

func TestFederatedAssertion(t *testing.T) {
	server := start(t, devserver.Options{})
	cluster, stranger := newKeyPair(t, devserver.KeyEC, time.Hour), newKeyPair(t, devserver.KeyEC, time.Hour)
	server.SetClient(devserver.Client{ID: appID, AssertionIssuers: []devserver.AssertionIssuer{
		{Issuer: "https://old.cluster", Subject: "gone", Audience: "api", Key: stranger.key.Public()},
		{Issuer: "https://cluster", Subject: "system:serviceaccount:ns:app", Audience: "api", Key: cluster.key.Public()},
	}})
	now := time.Now().Unix()
	good := members{"iss": "https://cluster", "sub": "system:serviceaccount:ns:app", "aud": []string{"api"}, "iat": now, "exp": now + 86400}
	tests := []struct {
		name   string
		key    crypto.Signer
		claims members
		want   string // part of the description; "" for success
	}{
		{"good", cluster.key, members{}, ""},
		{"good, once more", cluster.key, members{}, ""},
		{"other signer", stranger.key, members{}, "signature"},
		{"other subject", cluster.key, members{"sub": "system:serviceaccount:ns:other"}, "sub"},
		{"other audience", cluster.key, members{"aud": "vault"}, "aud"},
		{"other issuer", cluster.key, members{"iss": "https://cluster2"}, "issuer"},
		{"expired", cluster.key, members{"exp": now - 1}, "expired"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			jwt := signJWT(t, tt.key, members{"alg": "ES256", "kid": "any"}, good.with(tt.claims))
			got := mustPost(t, server.TokenURL(), assertionForm(jwt))
			if tt.want == "" && got.status != 200 {
				t.Fatalf("answer = %d %s", got.status, got.body)
			}
			if tt.want != "" && (got.status != 401 || !strings.Contains(got.text("error_description"), tt.want)) {
				t.Errorf("answer = %d %s, want 401 and %q", got.status, got.body, tt.want)
			}
			if entry := lastRequest(t, server); entry.AuthMethod != "federated_jwt" || entry.Client != appID {
				t.Errorf("log = %+v", entry)
			}
		})
	}
}
