package oauth

import (
	"strings"
	"testing"
)

// What a server repeats of a token is not shown, in whatever form, and other words are.
func TestTokensAreNotShown(t *testing.T) {
	const opaque, jwt = "mF_9.B5f-4.1JqM-opaque-zz", "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhcHAifQ.c2lnbmF0dXJl-abc_def"
	for name, tc := range map[string]struct{ body, keeps string }{
		"a grant with a status of failure": {`{"access_token":"` + opaque + `","token_type":"Bearer","expires_in":300}`, `"token_type":"Bearer"`},
		"with blanks":                      {`{ "access_token" : "` + opaque + `" }`, "access_token"},
		"a form":                           {"access_token=" + opaque + "&token_type=Bearer", "Bearer"},
		"in an object":                     {`{"data":{"token":"` + opaque + `","accessToken":"` + opaque + `"}}`, "data"},
		"a web page":                       {"<html><title>denied: token=" + opaque + "</title></html>", "denied"},
		"a page with escapes":              {`<p>{&quot;refresh_token&quot;:&quot;` + opaque + `&quot;}</p>`, "refresh_token"},
		"a JWT in prose":                   {"signature of " + jwt + " is invalid", "signature of [redacted] is invalid"},
		"a JWT of two parts":               {"bad: eyJhbGciOiJub25lIn0.eyJhIjoxfQ.", "bad"},
		"prose":                            {"the token: " + opaque + " has expired", "has expired"},
		"an assertion":                     {"client_assertion=" + jwt, "client_assertion"},
		"a secret":                         {`{"clientSecret":'` + opaque + `'}`, "clientSecret"},
		"JSON in a text":                   {`body was {\"access_token\":\"` + opaque + `\"}`, "body was"},
	} {
		got := Words([]byte(tc.body))
		if strings.Contains(got, opaque) || strings.Contains(got, "eyJ") || !strings.Contains(got, tc.keeps) || !strings.Contains(got, hidden) {
			t.Errorf("%s: %q", name, got)
		}
		if again := Printable(got); again != got {
			t.Errorf("%s: %q becomes %q", name, got, again)
		}
	}
	for _, text := range []string{
		"AADSTS7000215: Invalid client secret provided. Ensure the secret being sent is the client secret value, not the client secret ID",
		"Invalid token: signature verification failed", "token_type: unsupported", "the password is wrong", `{"token_endpoint":"https://login.example/token"}`,
		"JWT token has expired", "grant_type=client_credentials",
	} {
		if got := Printable(text); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
	answer, _ := ParseError([]byte(`{"error":"invalid_client","error_description":"assertion ` + jwt + ` was used before"}`))
	if answer.Description != "assertion [redacted] was used before" {
		t.Errorf("description %q", answer.Description)
	}
}
