package oauth_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/credagent/credagent/agent/oauth"
	"github.com/credagent/credagent/agent/policy"
)

// canary stands for what must not come out of an answer by way of an error.
const canary = "canary-8f2a"

func TestParseGrant(t *testing.T) {
	grant, err := oauth.ParseGrant([]byte(`{"token_type":"bearer","expires_in":3599,"refresh_in":1800,"ext_expires_in":3599,
		"access_token":"`+canary+`","scope":"a b"}`), received())
	if err != nil {
		t.Fatal(err)
	}
	if grant.AccessToken.Reveal() != canary || grant.TokenType != "Bearer" || grant.Scope != "a b" {
		t.Errorf("token %q of type %q and scope %q", grant.AccessToken.Reveal(), grant.TokenType, grant.Scope)
	}
	if grant.ExpiresIn != 3599*time.Second || grant.RefreshIn != 30*time.Minute || grant.Assumed {
		t.Errorf("expires in %v (assumed %v), refresh in %v", grant.ExpiresIn, grant.Assumed, grant.RefreshIn)
	}
}

func TestParseGrantLife(t *testing.T) {
	assumed := policy.AssumedLife
	tests := []struct {
		name, value string // of expires_in and refresh_in; "" leaves them out
		life        time.Duration
		refresh     time.Duration
	}{
		{"a number", `3600`, time.Hour, time.Hour},
		{"a number in a string", `"3600"`, time.Hour, time.Hour},
		{"space in the string", `" 3600 "`, time.Hour, time.Hour},
		{"a fraction", `3600.9`, time.Hour, time.Hour},
		{"a fraction in a string", `"3600.9"`, time.Hour, time.Hour},
		{"an exponent", `3.6e3`, time.Hour, time.Hour},
		{"a second", `1`, time.Second, time.Second},
		{"as long as is believed", `315360000`, policy.MaxLife, policy.MaxLife},
		{"longer than is believed", `315360001`, policy.MaxLife, policy.MaxLife},
		{"more than a Duration holds", `9223372037`, policy.MaxLife, policy.MaxLife},
		{"more than int64 holds", `9223372036854775808`, policy.MaxLife, policy.MaxLife},
		{"more than float64 holds", `1e999`, policy.MaxLife, policy.MaxLife},
		{"the same in a string", `"1e999"`, policy.MaxLife, policy.MaxLife},
		{"missing", ``, assumed, 0},
		{"null", `null`, assumed, 0},
		{"an empty string", `""`, assumed, 0},
		{"words", `"an hour"`, assumed, 0},
		{"a unit", `"3600s"`, assumed, 0},
		{"a boolean", `true`, assumed, 0},
		{"a list", `[3600]`, assumed, 0},
		{"an object", `{"seconds":3600}`, assumed, 0},
		{"NaN", `"NaN"`, assumed, 0},
		{"Infinity", `"Infinity"`, assumed, 0},
		{"negative Infinity", `"-Inf"`, assumed, 0},
		{"a string in a string", `"\"3600\""`, assumed, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			body := `{"access_token":"t"}`
			if test.value != "" {
				body = `{"access_token":"t","expires_in":` + test.value + `,"refresh_in":` + test.value + `}`
			}
			grant, err := oauth.ParseGrant([]byte(body), received())
			if err != nil {
				t.Fatal(err)
			}
			if grant.ExpiresIn != test.life || grant.Assumed != (test.refresh == 0) {
				t.Errorf("expires in %v (assumed %v), want %v", grant.ExpiresIn, grant.Assumed, test.life)
			}
			if grant.RefreshIn != test.refresh {
				t.Errorf("refresh in %v, want %v", grant.RefreshIn, test.refresh)
			}
		})
	}
}

// Of a life that cannot be one, what is likely meant counts, and it is said.
func TestParseGrantNoticesOddLives(t *testing.T) {
	const instant, milliseconds = "expires_in is the instant of the end, not a number of seconds", "expires_in looks like milliseconds, not seconds"
	const none, tooLong = "expires_in is less than a second", "expires_in is more than ten years"
	end := received().Add(time.Hour)
	tests := []struct {
		name, value string
		life        time.Duration
		odd         string
	}{
		{"Unix seconds", strconv.FormatInt(end.Unix(), 10), time.Hour, instant},
		{"Unix seconds in a string", `"` + strconv.FormatInt(end.Unix(), 10) + `"`, time.Hour, instant},
		{"Unix milliseconds", strconv.FormatInt(end.UnixMilli(), 10), time.Hour, instant},
		{"an hour in milliseconds", `3600000`, time.Hour, milliseconds},
		{"half an hour in milliseconds", `1800000`, 30 * time.Minute, milliseconds},
		{"3599 s in milliseconds", `3599000`, 3599 * time.Second, milliseconds},
		{"a day in milliseconds", `86400000`, 24 * time.Hour, milliseconds},
		{"60 days", `5184000`, 60 * 24 * time.Hour, ""},
		{"30 days", `2592000`, 30 * 24 * time.Hour, ""},
		{"a year", `31536000`, 365 * 24 * time.Hour, ""},
		{"five years", `157680000`, 5 * 365 * 24 * time.Hour, ""},
		{"28 hours", `100800`, 28 * time.Hour, ""},
		{"more than three centuries", `9999999999`, policy.MaxLife, tooLong},
		{"a boolean", `true`, policy.AssumedLife, "expires_in is not a number"},
		{"0", `0`, policy.AssumedLife, none},
		{"-0", `-0`, policy.AssumedLife, none},
		{"0 in a string", `"0"`, policy.AssumedLife, none},
		{"half a second", `0.5`, policy.AssumedLife, none},
		{"-1", `-1`, policy.AssumedLife, none},
		{"next to nothing", `1e-999`, policy.AssumedLife, none},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			grant, err := oauth.ParseGrant([]byte(`{"access_token":"t","expires_in":`+test.value+`}`), received())
			if err != nil || grant.ExpiresIn != test.life || grant.Odd != test.odd {
				t.Errorf("life %v, odd %q, error %v, want %v, %q", grant.ExpiresIn, grant.Odd, err, test.life, test.odd)
			}
			if ended := test.odd == none; grant.Ended != ended || ended && !grant.Assumed {
				t.Errorf("ended %v, assumed %v", grant.Ended, grant.Assumed)
			}
		})
	}
}

// received is when the answers of the tests are there.
func received() time.Time { return time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC) }

func TestParseGrantTokenType(t *testing.T) {
	tests := []struct {
		name, value string // "" leaves it out
		want        string // the error; "" for none
	}{
		{"Bearer", `"Bearer"`, ""},
		{"lower case", `"bearer"`, ""},
		{"upper case", `"BEARER"`, ""},
		{"missing", ``, ""},
		{"null", `null`, ""},
		{"empty", `""`, ""},
		{"Apigee's word", `"BearerToken"`, ""},
		{"in two words", `"bearer_token"`, ""},
		{"a space before it", `" Bearer"`, ""},
		{"a line's end behind it", `"bearer\n"`, ""},
		{"a list", `["Bearer"]`, ""},
		{"DPoP", `"DPoP"`, `the token's type is "DPoP", not Bearer`},
		{"N_A", `"N_A"`, `the token's type is "N_A", not Bearer`},
		{"the longest name", `"abcdefghij-klmnop.42"`, `the token's type is "abcdefghij-klmnop.42", not Bearer`},
		{"a longer name", `"abcdefghij-klmnop.420"`, `the token's type is not Bearer`},
		{"a space too many", `"Bearer "`, ""},
		{"a letter that only looks like one", `"Вearer"`, `the token's type is not Bearer`},
		{"control characters", `"D\u0007P\nP"`, `the token's type is not Bearer`},
		{"a token in its place", `"eyJhbGciOiJSUzI1NiJ9.` + canary + `"`, `the token's type is not Bearer`},
		{"a number", `7`, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			body := `{"access_token":"t","expires_in":60}`
			if test.value != "" {
				body = `{"access_token":"t","expires_in":60,"token_type":` + test.value + `}`
			}
			grant, err := oauth.ParseGrant([]byte(body), received())
			if test.want == "" {
				if err != nil || grant.TokenType != "Bearer" {
					t.Errorf("type %q, error %v", grant.TokenType, err)
				}
				return
			}
			if err == nil || err.Error() != test.want {
				t.Fatalf("error %v, want %q", err, test.want)
			}
			var unusable *oauth.UnusableTypeError
			if isType := strings.Contains(test.want, "type is"); errors.As(err, &unusable) != isType {
				t.Errorf("error of type %T", err)
			}
		})
	}
}

func TestParseGrantRefusesUnusableAnswers(t *testing.T) {
	const (
		broken     = "the answer is not a token answer: its JSON is broken or its fields are of the wrong type"
		notObject  = "the answer is not a token answer: it is not a JSON object"
		missing    = "the answer holds no access_token"
		characters = "the access_token holds characters that no header can carry"
	)
	const ended = "the token has no life left: expires_in is less than a second"
	tests := []struct{ name, body, want string }{
		{"empty", "", "the answer is not a token answer: it is empty"},
		{"only space", " \r\n\t", "the answer is not a token answer: it is empty"},
		{"a web page", "<!DOCTYPE html><p>" + canary, "the answer is not a token answer: it looks like a web page"},
		{"a web page behind space", "\n  <html>" + canary, "the answer is not a token answer: it looks like a web page"},
		{"words", canary, notObject},
		{"a string", `"` + canary + `"`, notObject},
		{"a list", `[{"access_token":"` + canary + `"}]`, notObject},
		{"a number", "42", notObject},
		{"cut off", `{"access_token":"` + canary, broken},
		{"something behind it", `{"access_token":"` + canary + `"} ` + canary, broken},
		{"a literal that is none", `{"access_token":"` + canary + `","expires_in":NaN}`, broken},
		{"nested beyond reason", strings.Repeat(`{"a":`, 20_000) + `"` + canary + `"`, broken},
		{"closed, nested beyond reason", strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000), broken},
		{"null", "null", missing},
		{"an empty object", "{}", missing},
		{"an error answer", `{"error":"` + canary + `"}`, missing},
		{"no token", `{"expires_in":3600}`, missing},
		{"an empty token", `{"access_token":""}`, missing},
		{"a token that is null", `{"access_token":null}`, missing},
		{"a token that is a number", `{"access_token":7}`, broken},
		{"a token that is a list", `{"access_token":["` + canary + `"]}`, broken},
		{"a newline in the token", `{"access_token":"` + canary + `\n"}`, characters},
		{"a carriage return", `{"access_token":"` + canary + `\r\nX: y"}`, characters},
		{"a space", `{"access_token":"` + canary + ` x"}`, characters},
		{"a tab", `{"access_token":"\t` + canary + `"}`, characters},
		{"a zero byte", `{"access_token":"` + canary + `\u0000"}`, characters},
		{"DEL", `{"access_token":"` + canary + `\u007f"}`, characters},
		{"a letter beyond ASCII", `{"access_token":"` + canary + `é"}`, characters},
		{"a byte that is no UTF-8", "{\"access_token\":\"" + canary + "\xff\"}", characters},
		{"a life that ended", `{"access_token":"` + canary + `","expires_in":-5}`, ended},
		{"a life that ended, in a string", `{"access_token":"` + canary + `","expires_in":"-3600"}`, ended},
		{"a life that ended for ever", `{"access_token":"` + canary + `","expires_in":-1e999}`, ended},
		{"a token too long", `{"access_token":"` + strings.Repeat(canary, 12_000) + `"}`, "the access_token is longer than 128 KiB"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			grant, err := oauth.ParseGrant([]byte(test.body), received())
			if err == nil || err.Error() != test.want {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if grant != (oauth.Grant{}) {
				t.Error("there is a grant beside the error")
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("the error shows the answer: %v", err)
			}
		})
	}
}

func TestParseGrantAcceptsUnusualAnswers(t *testing.T) {
	longest := strings.Repeat("x", 128<<10)
	tests := []struct{ name, body, token, scope string }{
		{"every visible character", `{"access_token":"!#$%&'()*+,-./:;<=>?@[]^_{|}~` + "`" + `\"\\"}`, "!#$%&'()*+,-./:;<=>?@[]^_{|}~`\"\\", ""},
		{"the longest token", `{"access_token":"` + longest + `"}`, longest, ""},
		{"the last of two tokens", `{"access_token":"a","access_token":"b"}`, "b", ""},
		{"an escaped token", `{"access_token":"\u0061\u0062"}`, "ab", ""},
		{"space around", " \n{\"access_token\":\"a\"}\r\n", "a", ""},
		{"fields nobody knows", `{"access_token":"a","x":{"y":[1,2,{}]},"id_token":7}`, "a", ""},
		{"a list as scope", `{"access_token":"a","scope":["one","two"]}`, "a", "one two"},
		{"a byte order mark", "\xef\xbb\xbf{\"access_token\":\"a\"}", "a", ""},
		{"a form", "access_token=a%2Bb&token_type=bearer&expires_in=60&scope=one+two", "a+b", "one two"},
		{"a form and a line's end", "access_token=a\r\n", "a", ""},
		{"no scope", `{"access_token":"a","scope":null}`, "a", ""},
		{"an empty list as scope", `{"access_token":"a","scope":[]}`, "a", ""},
		{"a scope that is neither", `{"access_token":"a","scope":{"one":1}}`, "a", ""},
		{"a scope of several lines", `{"access_token":"a","scope":"one\ntwo\u0007\u202e"}`, "a", "one two  "},
		{"a long scope is not cut", `{"access_token":"a","scope":"` + strings.Repeat("s", 5000) + `"}`, "a", strings.Repeat("s", 5000)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			grant, err := oauth.ParseGrant([]byte(test.body), received())
			if err != nil {
				t.Fatal(err)
			}
			if grant.AccessToken.Reveal() != test.token || grant.Scope != test.scope {
				t.Errorf("token %.80q and scope %.80q, want %.80q and %.80q", grant.AccessToken.Reveal(), grant.Scope, test.token, test.scope)
			}
		})
	}
}

// knownErrors are all that ParseGrant may say, but for the name of a token type.
func knownErrors() map[string]bool {
	return map[string]bool{
		"the answer is not a token answer: it is empty":                                            true,
		"the answer is not a token answer: it looks like a web page":                               true,
		"the answer is not a token answer: its JSON is broken or its fields are of the wrong type": true,
		"the answer is not a token answer: it is not a JSON object":                                true,
		"the answer holds no access_token":                                                         true,
		"the access_token is longer than 128 KiB":                                                  true,
		"the access_token holds characters that no header can carry":                               true,
		"the token has no life left: expires_in is less than a second":                             true,
		"the answer is not a token answer: its form is broken":                                     true,
		"the token's type is not Bearer":                                                           true,
	}
}

func FuzzParseGrant(f *testing.F) {
	known := knownErrors()
	f.Fuzz(func(t *testing.T, body []byte) {
		grant, err := oauth.ParseGrant(body, received())
		if err != nil {
			checkGrantError(t, err, known)
			return
		}
		token := grant.AccessToken.Reveal()
		if token == "" || len(token) > 128<<10 || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("token %q", token)
		}
		if grant.ExpiresIn < time.Second || grant.ExpiresIn > policy.MaxLife || grant.RefreshIn < 0 || grant.RefreshIn > policy.MaxLife {
			t.Errorf("expires in %v, refresh in %v", grant.ExpiresIn, grant.RefreshIn)
		}
		if grant.Assumed && grant.ExpiresIn != policy.AssumedLife || grant.TokenType != "Bearer" {
			t.Errorf("assumed %v, type %q", grant.ExpiresIn, grant.TokenType)
		}
		checkOneLine(t, grant.Scope)
		checkGrantRoundTrip(t, grant)
	})
}

func checkGrantError(t *testing.T, err error, known map[string]bool) {
	t.Helper()
	var unusable *oauth.UnusableTypeError
	if errors.As(err, &unusable) && len(unusable.TokenType) <= 20 {
		if strings.Trim(unusable.TokenType, "-._0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" {
			return
		}
	}
	if !known[err.Error()] {
		t.Errorf("an error of its own: %v", err)
	}
}

// checkGrantRoundTrip writes the grant as a server would and reads it again.
func checkGrantRoundTrip(t *testing.T, grant oauth.Grant) {
	t.Helper()
	wire := map[string]any{
		"access_token": grant.AccessToken.Reveal(),
		"token_type":   grant.TokenType,
		"refresh_in":   int64(grant.RefreshIn / time.Second),
		"scope":        grant.Scope,
	}
	if !grant.Assumed {
		wire["expires_in"] = int64(grant.ExpiresIn / time.Second)
	}
	body, err := json.Marshal(wire)
	if err != nil {
		t.Fatal(err)
	}
	again, err := oauth.ParseGrant(body, received())
	if grant.Odd != "" { // what was made of it is a life like any other
		again.Odd, again.Ended, again.ExpiresIn = grant.Odd, grant.Ended, grant.ExpiresIn
	}
	if err != nil || again != grant {
		t.Errorf("written and read again it is %+v, %v, was %+v", again, err, grant)
	}
}

// checkOneLine holds text to what a line of a log or a file can carry.
func checkOneLine(t *testing.T, text string) {
	t.Helper()
	if strings.ContainsFunc(text, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }) {
		t.Errorf("text that is not fit for a line: %q", text)
	}
}
