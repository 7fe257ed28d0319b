package oauth_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/credagent/credagent/agent/oauth"
)

// notBefore is the claims request of a resource server that wants a newer token.
const notBefore = `{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}`

// challengeFor is the WWW-Authenticate value that asks for claims.
func challengeFor(claims string) string {
	return `Bearer realm="", error="insufficient_claims", claims="` + base64.StdEncoding.EncodeToString([]byte(claims)) + `"`
}

func TestParseChallenge(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString([]byte(notBefore))
	good := `error="insufficient_claims", claims="` + encoded + `"`
	unlike := `{"a":"???>>>~~~"}` // its base64 differs between the alphabets, and is padded
	tests := []struct{ name, value, want string }{
		{"as Microsoft Graph sends it", `Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", client_id="00000003-0000-0000-c000-000000000000", ` + good, notBefore},
		{"alone", "Bearer " + good, notBefore},
		{"names in any case", `bEARER ERROR="insufficient_claims", Claims="` + encoded + `"`, notBefore},
		{"claims first", `Bearer claims="` + encoded + `", error="insufficient_claims"`, notBefore},
		{"space around", "\t Bearer   error = \"insufficient_claims\"\t,  claims= \"" + encoded + "\" ,, ", notBefore},
		{"folded", "Bearer\r\n  error=\"insufficient_claims\",\r\n  claims=\"" + encoded + "\"\r\n", notBefore},
		{"no commas", `Bearer error="insufficient_claims" claims="` + encoded + `"`, notBefore},
		{"nothing quoted", `Bearer authorization_uri=https://login.example.com/authorize?a=b resource_id=https://api.example.com, error=insufficient_claims, claims=` + encoded, notBefore},
		{"a name with space before its value, after the scheme", `Bearer error ="insufficient_claims", claims="` + encoded + `"`, notBefore},
		{"escapes", `Bearer error="insufficient\_claims", description="say \"no\", \\ Bearer error=", claims="` + encoded[:4] + `\` + encoded[4:] + `"`, notBefore},
		{"other letters in a description", `Bearer error_description="Gültig", ` + good, notBefore},
		{"after other schemes", `Negotiate, NTLM, Basic realm="a, b", Digest nonce="x", Bearer ` + good, notBefore},
		{"after a token68", "Negotiate YII/+abc==, Bearer " + good, notBefore},
		{"after a token68 that could be a name", "NTLM abc , Bearer " + good, notBefore},
		{"before others", "Bearer " + good + `, Basic realm="x", Negotiate YII=`, notBefore},
		{"lines of several headers", "NTLM\nBearer " + good + "\nBasic realm=\"x\"", notBefore},
		{"after a Bearer challenge of another kind", `Bearer realm="x", Bearer error="invalid_token", Bearer ` + good, notBefore},
		{"the first of two", challengeFor(`{"a":1}`) + ", " + challengeFor(`{"b":2}`), `{"a":1}`},
		{"nothing asked for", challengeFor("{}"), "{}"},
		{"base64", `Bearer error="insufficient_claims", claims="` + base64.StdEncoding.EncodeToString([]byte(unlike)) + `"`, unlike},
		{"base64 without padding", `Bearer error="insufficient_claims", claims="` + base64.RawStdEncoding.EncodeToString([]byte(unlike)) + `"`, unlike},
		{"base64url", `Bearer error="insufficient_claims", claims="` + base64.URLEncoding.EncodeToString([]byte(unlike)) + `"`, unlike},
		{"base64url without padding", `Bearer error="insufficient_claims", claims="` + base64.RawURLEncoding.EncodeToString([]byte(unlike)) + `"`, unlike},
		{"space in the JSON", challengeFor("\n{ \"b\" : [ 1 , 2 ], \"a\": null }\n"), `{"a":null,"b":[1,2]}`},
		{"numbers as they are", challengeFor(`{"a":12345678901234567890.10,"b":1e400}`), `{"a":12345678901234567890.10,"b":1e400}`},
		{"the largest claims", challengeFor(`{"a":"` + strings.Repeat("x", 16<<10-8) + `"}`), `{"a":"` + strings.Repeat("x", 16<<10-8) + `"}`},
		{"the deepest claims", challengeFor(nested(16)), nested(16)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got, err := oauth.ParseChallenge(test.value); err != nil || got != test.want {
				t.Errorf("ParseChallenge = %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

// nested is a claims request of so many objects within one another.
func nested(deep int) string {
	return strings.Repeat(`{"a":`, deep-1) + "{}" + strings.Repeat("}", deep-1)
}

func TestParseChallengeRefusesWhatIsNone(t *testing.T) {
	const (
		noBearer = "it holds no Bearer challenge"
		noError  = "its Bearer challenge has no error: the resource was asked without a token"
		noClaims = "its Bearer challenge has no claims"
	)
	encoded := base64.StdEncoding.EncodeToString([]byte(notBefore))
	tests := []struct{ name, value, want string }{
		{"nothing", "", noBearer},
		{"commas", " , ,", noBearer},
		{"another scheme", `Basic error="insufficient_claims", claims="` + encoded + `"`, noBearer},
		{"a token in its place", canary, noBearer},
		{"a request's header in its place", "Bearer " + canary, noError},
		{"a realm alone", `Bearer realm="` + canary + `"`, noError},
		{"an expired token", `Bearer error="invalid_token", claims="` + encoded + `"`, "its error is invalid_token, not insufficient_claims"},
		{"too small a scope", `Bearer error="insufficient_scope", scope="` + canary + `"`, "its error is insufficient_scope, not insufficient_claims"},
		{"an error of its own", `Bearer error="` + canary + `"`, "its error is not insufficient_claims"},
		{"an error in capitals", `Bearer error="INSUFFICIENT_CLAIMS", claims="` + encoded + `"`, "its error is not insufficient_claims"},
		{"no claims", `Bearer error="insufficient_claims", claim="` + canary + `"`, noClaims},
		{"empty claims", `Bearer error="insufficient_claims", claims=""`, noClaims},
		{"claims in another challenge", `Bearer error="insufficient_claims", Basic claims="` + encoded + `"`, noClaims},
		{"too long", "Bearer realm=\"" + strings.Repeat("x", 32<<10), "it is longer than 32 KiB"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { checkRefused(t, test.value, test.want) })
	}
}

// checkRefused expects a typed error, and nothing beside it.
func checkRefused(t *testing.T, value, want string) {
	t.Helper()
	claims, err := oauth.ParseChallenge(value)
	var refused *oauth.ChallengeError
	if !errors.As(err, &refused) || err.Error() != want {
		t.Errorf("error %v of type %T, want %q", err, err, want)
	}
	if claims != "" {
		t.Errorf("there are claims beside the error: %q", claims)
	}
}

func TestParseChallengeRefusesOtherClaims(t *testing.T) {
	const (
		base   = "its claims are not base64"
		object = "its claims are not a JSON object"
		more   = "its claims are more than a JSON object"
		long   = "its claims are longer than 16 KiB"
		deep   = "its claims are nested deeper than 16"
	)
	encoded := base64.StdEncoding.EncodeToString([]byte(notBefore))
	tests := []struct{ name, value, want string }{
		{"JSON as it is", `Bearer error="insufficient_claims", claims="{\"access_token\":{}}"`, base},
		{"percent-encoded JSON", `Bearer error="insufficient_claims", claims="%7B%7D"`, base},
		{"base64 cut off", `Bearer error="insufficient_claims", claims="` + encoded[:5] + `"`, base},
		{"padding alone", `Bearer error="insufficient_claims", claims="="`, object},
		{"words", challengeFor(canary), object},
		{"half an object", challengeFor(`{"a":1`), object},
		{"null", challengeFor("null"), object},
		{"a list", challengeFor("[{}]"), object},
		{"a string", challengeFor(`"{}"`), object},
		{"a member that is none", challengeFor(`{"a":NaN}`), object},
		{"bytes that are no UTF-8", challengeFor("{\"a\":\"\xff\"}"), object},
		{"two objects", challengeFor("{}{}"), more},
		{"something behind it", challengeFor("{} " + canary), more},
		{"too long", challengeFor(`{"a":"` + strings.Repeat("x", 16<<10-7) + `"}`), long},
		{"nested too deep", challengeFor(nested(17)), deep},
		{"lists nested too deep", challengeFor(`{"a":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + "}"), deep},
		{"nested beyond reason", challengeFor(strings.Repeat(`{"":`, 4000) + "1" + strings.Repeat("}", 4000)), long},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { checkRefused(t, test.value, test.want) })
	}
}

func TestParseChallengeSaysWhereItCannotRead(t *testing.T) {
	const neither = "neither a scheme nor a parameter"
	tests := []struct {
		name, value string
		from        int // the byte, counted from 1
		want        string
	}{
		{"the header's name before it", "WWW-Authenticate: " + challengeFor(notBefore), 17, neither},
		{"a string without a name", `Bearer "x"`, 8, neither},
		{"a letter that no scheme has", "Вearer error=x", 1, neither},
		{"a string without an end", `Bearer error="insufficient_claims`, 34, "a quoted string has no end"},
		{"a string that ends in a backslash", `Bearer error="\`, 16, "a quoted string has no end"},
		{"a newline in a string", "Bearer error=\"insufficient\nclaims\"", 27, "a control character in a quoted string"},
		{"an escaped zero byte", "Bearer error=\"\\\x00\"", 16, "a control character in a quoted string"},
		{"a parameter without a value", `Bearer error="insufficient_claims", claims= ,`, 45, "a parameter without a value"},
		{"a parameter twice", `Bearer error="insufficient_claims", ERROR="x"`, 43, "a parameter is there twice"},
		{"a parameter without a scheme", `error="insufficient_claims"`, 7, "a parameter before the scheme"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			checkRefused(t, test.value, fmt.Sprintf("it cannot be read from byte %d on: %s", test.from, test.want))
		})
	}
}

// FuzzParseChallenge takes any value; what it makes of it, a challenge can ask for again.
func FuzzParseChallenge(f *testing.F) {
	position := regexp.MustCompile(`byte \d+ on`)
	known := map[string]bool{}
	for _, reason := range []string{
		"it is longer than 32 KiB", "it holds no Bearer challenge", "its error is not insufficient_claims",
		"its error is invalid_request, not insufficient_claims", "its error is invalid_token, not insufficient_claims",
		"its error is insufficient_scope, not insufficient_claims", "its Bearer challenge has no claims",
		"its Bearer challenge has no error: the resource was asked without a token",
		"its claims are not base64", "its claims are not a JSON object", "its claims are more than a JSON object",
		"its claims are longer than 16 KiB", "its claims are nested deeper than 16",
		"it cannot be read from byte 0 on: neither a scheme nor a parameter",
		"it cannot be read from byte 0 on: a parameter before the scheme",
		"it cannot be read from byte 0 on: a parameter without a value",
		"it cannot be read from byte 0 on: a parameter is there twice",
		"it cannot be read from byte 0 on: a quoted string has no end",
		"it cannot be read from byte 0 on: a control character in a quoted string",
	} {
		known[reason] = true
	}
	f.Fuzz(func(t *testing.T, value string) {
		claims, err := oauth.ParseChallenge(value)
		if err != nil {
			if reason := position.ReplaceAllString(err.Error(), "byte 0 on"); !known[reason] || claims != "" {
				t.Errorf("an error of its own, or claims beside it: %v, %q", err, claims)
			}
			return
		}
		var object map[string]json.RawMessage
		if json.Unmarshal([]byte(claims), &object) != nil || object == nil || oauth.MergeClaims(claims) != claims {
			t.Errorf("claims %q", claims)
		}
		if len(claims) > 16<<10 {
			return // written out they may be longer than they were
		}
		if again, err := oauth.ParseChallenge("Basic realm=\"x\", " + challengeFor(claims)); err != nil || again != claims {
			t.Errorf("asked for again they are %q, %v, were %q", again, err, claims)
		}
	})
}
