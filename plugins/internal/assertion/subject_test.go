package assertion

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// subjectJWT is a JWT that expires at an instant; its signature is nobody's.
func subjectJWT(expiry time.Time) string {
	part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	return part(`{"alg":"RS256"}`) + "." + part(fmt.Sprintf(`{"sub":"pod","exp":%d}`, expiry.Unix())) + "." + part("signature-canary")
}

func TestSubjectTokens(t *testing.T) {
	const accessToken, jwtType = "urn:ietf:params:oauth:token-type:access_token", "urn:ietf:params:oauth:token-type:jwt"
	good, old := subjectJWT(time.Now().Add(time.Hour)), subjectJWT(time.Now().Add(-time.Hour))
	for name, tc := range map[string]struct {
		content, tokenType string
		want               string // the token, or part of the error
		fails              bool
	}{
		"JWT":                       {good + "\n", jwtType, good, false},
		"opaque":                    {"ya29.a0Af-token\r\n", accessToken, "ya29.a0Af-token", false},
		"JWT as an access token":    {good, accessToken, good, false},
		"expired JWT":               {old, jwtType, "it expired at", true},
		"expired access token":      {old, accessToken, "it expired at", true},
		"no JWT":                    {"canary-opaque", jwtType, "it is not a signed JWT", true},
		"empty":                     {"\n", accessToken, "it is empty", true},
		"a web page":                {"<html>canary</html>", accessToken, "it is HTML or XML and no token", true},
		"the JSON form":             {`{"access_token":"canary"}`, accessToken, "it is JSON and no token", true},
		"a header":                  {"Authorization: Bearer canary", accessToken, "blanks", true},
		"a web page in place of it": {"<html>canary</html>", jwtType, "it is not a signed JWT", true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			config, _ := json.Marshal(map[string]string{"assertion_file": path})
			source, err := Subject{SubjectToken: config}.OpenSubject()
			if err != nil || !source.Given() || len(source.SubjectFiles()) != 1 || source.CheckSubjectToken(tc.tokenType) != nil {
				t.Fatal(source, err)
			}
			token, err := source.Get(t.Context(), tc.tokenType)
			switch {
			case !tc.fails && (err != nil || token != tc.want):
				t.Errorf("token %q, error %v", token, err)
			case tc.fails && (err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "canary")):
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestSubjectConfigurations(t *testing.T) {
	for config, want := range map[string]string{
		``:                                       "",
		`null`:                                   "",
		`[]`:                                     "subject_token: is not a mapping",
		`{}`:                                     "subject_token: exactly one of assertion_file and source is needed",
		`{"assertion_file":"relative"}`:          "subject_token.assertion_file: is not an absolute path",
		`{"file":"/f"}`:                          "subject_token.file: unknown key",
		`{"source":{"moon":{}}}`:                 "subject_token.source.moon: unknown key",
		`{"assertion_file":"/f","audience":"a"}`: "subject_token.audience: is for a source",
	} {
		var raw json.RawMessage
		if config != "" {
			raw = json.RawMessage(config)
		}
		source, err := Subject{SubjectToken: raw}.OpenSubject()
		if want == "" && (err != nil || source.Given() || source.CheckSubjectToken("") == nil || source.SubjectFiles() != nil) {
			t.Errorf("%s: %+v, %v", config, source, err)
		}
		if want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%s: error %v, want %q", config, err, want)
		}
	}
}
