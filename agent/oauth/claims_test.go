package oauth_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/credagent/credagent/agent/oauth"
)

func TestMergeClaims(t *testing.T) {
	tests := []struct {
		name     string
		requests []string
		want     string
	}{
		{"nothing", nil, ""},
		{"nothing but nothing", []string{"", ""}, ""},
		{"one that asks for nothing", []string{"", "{}"}, "{}"},
		{"one", []string{`{ "b": 1, "a": [2] }`}, `{"a":[2],"b":1}`},
		{"the capability alone", []string{"", oauth.ClientCapability}, oauth.ClientCapability},
		{
			"what is configured, the capability and a challenge",
			[]string{`{"access_token":{"acrs":{"essential":true,"value":"c1"}},"id_token":{"auth_time":null}}`, oauth.ClientCapability, notBefore},
			`{"access_token":{"acrs":{"essential":true,"value":"c1"},"nbf":{"essential":true,"value":"1604106651"},"xms_cc":{"values":["cp1"]}},"id_token":{"auth_time":null}}`,
		},
		{
			"the later wins",
			[]string{`{"access_token":{"nbf":{"essential":true,"value":"1"}}}`, `{"access_token":{"nbf":{"value":"2"}}}`},
			`{"access_token":{"nbf":{"essential":true,"value":"2"}}}`,
		},
		{"an object over a value", []string{`{"a":1,"b":null}`, `{"a":{"c":1},"b":{}}`}, `{"a":{"c":1},"b":{}}`},
		{"a value over an object", []string{`{"a":{"c":1},"b":{"c":1}}`, `{"a":1,"b":null}`}, `{"a":1,"b":null}`},
		{"a list is replaced", []string{`{"acr":{"values":["a","b"]}}`, `{"acr":{"values":["c"]}}`}, `{"acr":{"values":["c"]}}`},
		{
			"capabilities are united",
			[]string{`{"access_token":{"xms_cc":{"values":["cp2","cp1",{"a":1},{"a":1}]}}}`, oauth.ClientCapability, `{"access_token":{"xms_cc":{"values":["cp3","cp2"]}}}`},
			`{"access_token":{"xms_cc":{"values":["cp2","cp1",{"a":1},"cp3"]}}}`,
		},
		{"capabilities that are no list", []string{`{"access_token":{"xms_cc":{"values":"cp2"}}}`, oauth.ClientCapability}, oauth.ClientCapability},
		{"no capabilities", []string{`{"access_token":{"xms_cc":null}}`, oauth.ClientCapability}, oauth.ClientCapability},
		{"other members of the capability", []string{`{"access_token":{"xms_cc":{"essential":true}}}`, oauth.ClientCapability}, `{"access_token":{"xms_cc":{"essential":true,"values":["cp1"]}}}`},
		{"what is no object counts as none", []string{`{"a":1}`, "[]", "null", `{"b":`, `{"c":1}{}`}, `{"a":1}`},
		{"numbers as they are", []string{`{"a":10000000000000000000001,"b":1.50}`, `{"c":1E2}`}, `{"a":10000000000000000000001,"b":1.50,"c":1E2}`},
		{"characters as they are", []string{`{"a":"<&> \u00e9 ü"}`}, `{"a":"<&> é ü"}`},
		{"longer and deeper than a challenge's", []string{nested(40), `{"b":"` + strings.Repeat("x", 17<<10) + `"}`}, nested(40)[:len(nested(40))-1] + `,"b":"` + strings.Repeat("x", 17<<10) + `"}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := oauth.MergeClaims(test.requests...); got != test.want {
				t.Errorf("MergeClaims = %s, want %s", got, test.want)
			}
		})
	}
}

// FuzzMergeClaims merges any two texts. What was merged once stays as it is, and a challenge that
// asks for an object is understood.
func FuzzMergeClaims(f *testing.F) {
	f.Fuzz(func(t *testing.T, a, b string) {
		merged := oauth.MergeClaims(a, b)
		if again := oauth.MergeClaims(merged, b); again != merged {
			t.Errorf("merged again it is %s, was %s", again, merged)
		}
		if again := oauth.MergeClaims(merged, merged); again != merged {
			t.Errorf("merged with itself it is %s, was %s", again, merged)
		}
		for _, text := range []string{a, b} {
			checkChallengeRoundTrip(t, text)
		}
	})
}

// checkChallengeRoundTrip makes a challenge of a text and expects its claims back, if it has any.
func checkChallengeRoundTrip(t *testing.T, text string) {
	t.Helper()
	var object map[string]json.RawMessage
	isObject := json.Unmarshal([]byte(text), &object) == nil && object != nil && utf8.ValidString(text)
	if written := oauth.MergeClaims(text); isObject != (written != "") {
		t.Errorf("%q is an object: %v, but MergeClaims makes %q of it", text, isObject, written)
	}
	if !isObject || len(text) > oauth.MaxClaims || strings.Count(text, "{")+strings.Count(text, "[") > 16 {
		return
	}
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		value := `Negotiate, Bearer claims="` + encoding.EncodeToString([]byte(text)) + `", error=insufficient_claims`
		if claims, err := oauth.ParseChallenge(value); err != nil || claims != oauth.MergeClaims(text) {
			t.Errorf("a challenge with %s asks for %q, %v", text, claims, err)
		}
	}
}

func ExampleMergeClaims() {
	configured := `{"access_token":{"acrs":{"essential":true}}}`
	fmt.Println(oauth.MergeClaims(configured, oauth.ClientCapability))
	// Output: {"access_token":{"acrs":{"essential":true},"xms_cc":{"values":["cp1"]}}}
}
