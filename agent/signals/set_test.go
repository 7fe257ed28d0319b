package signals

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func jsonNumber(text string) json.Number { return json.Number(text) }

// dates has every answer carry another Date.
func (w *world) dates(date func() string) {
	transport := &http.Transport{DialContext: w.server.DialContext, DisableKeepAlives: true}
	w.intercept = func(r *http.Request) (*http.Response, error) {
		response, err := transport.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return nil, err
		}
		return answer(response.StatusCode, string(body), "Date", date())
	}
}

// signers has a key of each kind, made once.
var signers = sync.OnceValue(func() map[string]any {
	long, _ := rsa.GenerateKey(rand.Reader, 2048)
	other, _ := rsa.GenerateKey(rand.Reader, 2048)
	short, _ := rsa.GenerateKey(rand.Reader, 1024)
	curve, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, edwards, _ := ed25519.GenerateKey(rand.Reader)
	return map[string]any{"rsa": long, "other": other, "short": short, "ec": curve, "ed": edwards}
})

// transmitterKeys are the public keys that the transmitter shows.
func transmitterKeys(t testing.TB) keys {
	t.Helper()
	public := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: &signers()["rsa"].(*rsa.PrivateKey).PublicKey, KeyID: "rsa", Use: "sig"},
		{Key: &signers()["short"].(*rsa.PrivateKey).PublicKey, KeyID: "short"},
		{Key: &signers()["ec"].(*ecdsa.PrivateKey).PublicKey, KeyID: "ec", Algorithm: "ES256"},
		{Key: signers()["ed"].(ed25519.PrivateKey).Public(), KeyID: "ed"},
		{Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: "secret"},
	}}
	body, err := json.Marshal(public)
	if err != nil {
		t.Fatal(err)
	}
	all, err := readKeys(body)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// signed signs claims by go-jose, with a header as a transmitter has it.
func signed(t testing.TB, alg jose.SignatureAlgorithm, key any, header map[jose.HeaderKey]any, claims any) string {
	t.Helper()
	options := &jose.SignerOptions{}
	for name, value := range header {
		options = options.WithHeader(name, value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	object, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := object.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

func goodClaims() map[string]any {
	return map[string]any{
		"iss": "https://tr", "aud": []string{"https://me", "https://other"}, "jti": "j1", "iat": 1790000000,
		"sub_id": map[string]any{"format": "opaque", "id": "x"},
		"events": map[string]any{caep + "session-revoked": map[string]any{"event_timestamp": 1790000001}},
	}
}

func expecting() expected { return expected{"https://tr", []string{"https://me"}} }

// setCase is a SET, and the code with which it is refused; "" for a good one.
type setCase struct{ name, set, want string }

// header is that of a good SET, but for one field; a nil value takes it away.
func header(name jose.HeaderKey, value any) map[jose.HeaderKey]any {
	fields := map[jose.HeaderKey]any{jose.HeaderType: "secevent+jwt", "kid": "rsa"}
	fields[name] = value
	if value == nil {
		delete(fields, name)
	}
	return fields
}

// changed are the claims of a good SET, but for one; a nil value takes it away.
func changed(name string, value any) map[string]any {
	c := goodClaims()
	c[name] = value
	if value == nil {
		delete(c, name)
	}
	return c
}

// headerCases are about the header.
func headerCases(t *testing.T) []setCase {
	t.Helper()
	rs := func(fields map[jose.HeaderKey]any, c map[string]any) string {
		return signed(t, jose.RS256, signers()["rsa"], fields, c)
	}
	critical := header("x", "y")
	critical["crit"] = []string{"x"}
	return []setCase{
		{"good", rs(header("kid", "rsa"), goodClaims()), ""},
		{"typ with application", rs(header(jose.HeaderType, "application/secevent+jwt"), goodClaims()), ""},
		{"typ in capitals", rs(header(jose.HeaderType, "SecEvent+JWT"), goodClaims()), ""},
		{"another typ", rs(header(jose.HeaderType, "at+jwt"), goodClaims()), codeRequest},
		{"typ JWT", rs(header(jose.HeaderType, "JWT"), goodClaims()), codeRequest},
		{"no typ", rs(header(jose.HeaderType, nil), goodClaims()), codeRequest},
		{"PS256", signed(t, jose.PS256, signers()["rsa"], header("kid", "rsa"), goodClaims()), ""},
		{"ES256", signed(t, jose.ES256, signers()["ec"], header("kid", "ec"), goodClaims()), ""},
		{"EdDSA", signed(t, jose.EdDSA, signers()["ed"], header("kid", "ed"), goodClaims()), ""},
		{"an unknown header", rs(header("x", "y"), goodClaims()), ""},
		{"a critical header", rs(critical, goodClaims()), codeKey},
	}
}

// signatureCases are about who signed what.
func signatureCases(t *testing.T) []setCase {
	t.Helper()
	rs := func(fields map[jose.HeaderKey]any, c map[string]any) string {
		return signed(t, jose.RS256, signers()["rsa"], fields, c)
	}
	public, err := x509.MarshalPKIXPublicKey(&signers()["rsa"].(*rsa.PrivateKey).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	embedded := header("kid", nil)
	embedded["jwk"] = map[string]any{"kty": "oct", "k": "AA"}
	good := rs(header("kid", "rsa"), goodClaims())
	encode := base64.RawURLEncoding.EncodeToString
	head, rest, _ := strings.Cut(good, ".")
	body, signature, _ := strings.Cut(rest, ".")
	return []setCase{
		{"alg none", encode([]byte(`{"alg":"none","typ":"secevent+jwt","kid":"rsa"}`)) + "." + body + ".", codeKey},
		{"alg none with the signature", encode([]byte(`{"alg":"none","typ":"secevent+jwt","kid":"rsa"}`)) + "." + body + "." + signature, codeKey},
		{"HMAC with the public key", signed(t, jose.HS256, public, header("kid", "rsa"), goodClaims()), codeKey},
		{"HMAC with a key that is shown", signed(t, jose.HS256, []byte("0123456789abcdef0123456789abcdef"), header("kid", "secret"), goodClaims()), codeKey},
		{"another key under the same kid", signed(t, jose.RS256, signers()["other"], header("kid", "rsa"), goodClaims()), codeKey},
		{"a key that is too short", signed(t, jose.RS256, signers()["short"], header("kid", "short"), goodClaims()), "unknown key"},
		{"an unknown kid", rs(header("kid", "new"), goodClaims()), "unknown key"},
		{"no kid", rs(header("kid", nil), goodClaims()), ""},
		{"no kid and another key", signed(t, jose.RS256, signers()["other"], header("kid", nil), goodClaims()), "unknown key"},
		{"a key of another algorithm", signed(t, jose.RS256, signers()["rsa"], header("kid", "ec"), goodClaims()), "unknown key"},
		{"a key in the header", rs(embedded, goodClaims()), codeRequest},
		{"changed after it was signed", head + "." + encode([]byte(strings.Replace(string(mustDecode(t, body)), "j1", "j2", 1))) + "." + signature, codeKey},
		{"no signature", head + "." + body + ".", codeKey},
		{"two parts", head + "." + body, codeRequest},
		{"empty", "", codeRequest},
		{"too long", good + strings.Repeat("A", maxSET), codeRequest},
	}
}

// claimCases are about the claims.
func claimCases(t *testing.T) []setCase {
	t.Helper()
	rs := func(fields map[jose.HeaderKey]any, c map[string]any) string {
		return signed(t, jose.RS256, signers()["rsa"], fields, c)
	}
	return []setCase{
		{"another issuer", rs(header("kid", "rsa"), changed("iss", "https://tr/")), codeIssuer},
		{"no issuer", rs(header("kid", "rsa"), changed("iss", nil)), codeIssuer},
		{"another audience", rs(header("kid", "rsa"), changed("aud", "https://other")), codeAudience},
		{"one audience", rs(header("kid", "rsa"), changed("aud", "https://me")), ""},
		{"no audience", rs(header("kid", "rsa"), changed("aud", nil)), codeAudience},
		{"an audience of an odd kind", rs(header("kid", "rsa"), changed("aud", 7)), codeRequest},
		{"another jti than it came under", rs(header("kid", "rsa"), changed("jti", "j2")), codeRequest},
		{"no jti", rs(header("kid", "rsa"), changed("jti", nil)), codeRequest},
		{"a sub", rs(header("kid", "rsa"), changed("sub", "x")), codeRequest},
		{"an exp", rs(header("kid", "rsa"), changed("exp", 1790009999)), codeRequest},
		{"no iat", rs(header("kid", "rsa"), changed("iat", nil)), codeRequest},
		{"iat as a text", rs(header("kid", "rsa"), changed("iat", "now")), codeRequest},
		{"no sub_id", rs(header("kid", "rsa"), changed("sub_id", nil)), codeRequest},
		{"no events", rs(header("kid", "rsa"), changed("events", map[string]any{})), codeRequest},
		{"two events", rs(header("kid", "rsa"), changed("events", map[string]any{"a": 1, "b": 2})), codeRequest},
		{"events as a list", rs(header("kid", "rsa"), changed("events", []string{"a"})), codeRequest},
		{"an unknown claim", rs(header("kid", "rsa"), changed("txn", 7)), ""},
		{"an event of an odd kind", rs(header("kid", "rsa"), changed("events", map[string]any{caep + "session-revoked": 7})), ""},
	}
}

func TestSETRules(t *testing.T) {
	for _, test := range slices.Concat(headerCases(t), signatureCases(t), claimCases(t)) {
		t.Run(test.name, func(t *testing.T) {
			_, err := readSET(test.set, "j1", transmitterKeys(t), expecting())
			got := ""
			var refused *setError
			switch {
			case errors.As(err, &refused):
				got = refused.Code
			case errors.Is(err, errUnknownKey):
				got = "unknown key"
			}
			if got != test.want {
				t.Errorf("refused with %q (%v), want %q", got, err, test.want)
			}
		})
	}
}

func mustDecode(t *testing.T, text string) []byte {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestTimeOfAnEvent(t *testing.T) {
	for name, test := range map[string]struct {
		change func(map[string]any)
		want   int64
	}{
		"event_timestamp": {func(map[string]any) {}, 1790000001},
		"toe":             {func(c map[string]any) { c["toe"], c["events"] = 1789999999, map[string]any{"x": map[string]any{}} }, 1789999999},
		"iat":             {func(c map[string]any) { c["events"] = map[string]any{"x": map[string]any{"event_timestamp": "soon"}} }, 1790000000},
	} {
		claims := goodClaims()
		test.change(claims)
		plain, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := readClaims(plain, "j1", expecting()); err != nil || got.at.Unix() != test.want {
			t.Errorf("%s: it happened at %d, want %d (%v)", name, got.at.Unix(), test.want, err)
		}
	}
}

// TestKeyRotation: a key that is not known has the keys read again, and no more often than once a minute,
// whatever the SETs name.
func TestKeyRotation(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start()
		w.settle(2 * time.Minute)
		if err := w.server.RotateSignalKey(); err != nil {
			t.Fatal(err)
		}
		w.queue("rotated", nil)
		w.settle(2 * time.Minute)
		if w.found() != 1 || w.only().Waiting != 0 || w.count("/keys") != 2 {
			t.Errorf("found %d, waiting %d, keys read %d times", w.found(), w.only().Waiting, w.count("/keys"))
		}
		before := w.count("/keys")
		for i := range 100 {
			set, err := w.server.SignSET(map[string]any{"kid": "made-up"}, map[string]any{})
			if err != nil {
				t.Fatal(err)
			}
			w.server.Queue("bad-"+string(rune('a'+i%26))+string(rune('a'+i/26)), set)
		}
		w.settle(10 * time.Minute)
		if n := w.count("/keys") - before; n > 10 || n == 0 {
			t.Errorf("keys were read %d times in ten minutes", n)
		}
		if got := w.only(); got.Waiting != 0 || len(got.Refused) != 100 {
			t.Errorf("%d wait, %d are refused", got.Waiting, len(got.Refused))
		}
	})
}

// TestRefusalsAreReported: the transmitter is told why (RFC 8936, 2.4.4), and what is refused does nothing.
func TestRefusalsAreReported(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start()
		w.settle(time.Minute)
		w.queue("issuer", map[string]any{"iss": "https://evil.example"})
		w.queue("audience", map[string]any{"aud": "https://somebody.example"})
		w.queue("sub", map[string]any{"sub": "app-1"})
		w.server.Queue("garbage", "x.y.z")
		w.settle(2 * time.Minute)
		got := w.only().Refused
		for jti, want := range map[string]string{"issuer": codeIssuer, "audience": codeAudience, "sub": codeRequest, "garbage": codeRequest} {
			if got[jti] != want {
				t.Errorf("%s is refused with %q, want %q", jti, got[jti], want)
			}
		}
		if w.found() != 0 || w.only().Waiting != 0 {
			t.Errorf("found %d, waiting %d", w.found(), w.only().Waiting)
		}
	})
}
