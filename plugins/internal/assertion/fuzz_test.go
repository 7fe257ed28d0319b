package assertion

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// Whatever a platform answers, reading it ends in a token or in an error that shows nothing of it but a
// refusal's words, cleaned and bounded, and without what went with the question.
func FuzzAnswers(f *testing.F) {
	const secret = "canary-of-the-question"
	for _, seed := range []string{
		"", "{}", "<html>", `{"access_token":"a.b.c","expires_on":"1","resource":"r"}`, `{"spec":{"audiences":["x"]},"status":{"token":"t","expirationTimestamp":"2001-01-01T00:00:00Z"}}`,
		`{"error":{"message":"` + secret + `"},"error_description":"\u0000","message":7}`, `{"error":"` + secret + `","message":"no"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got := answer{status: 200, body: body}
		_, errAzure := azure{Resource: azureResource}.read(got)
		_, errKubernetes := readTokenRequest(got, "x")
		for _, err := range []error{errAzure, errKubernetes} {
			if err != nil && (len(err.Error()) > 200 || !utf8.ValidString(err.Error())) {
				t.Errorf("error %q", err)
			}
		}
		words := question{secrets: []string{secret}}.words(body)
		if len(words) > maxWords+len("…") || !utf8.ValidString(words) || strings.Contains(words, secret) || strings.ContainsFunc(words, unicode.IsControl) {
			t.Errorf("words %q", words)
		}
	})
}

// Whatever Azure Arc's agent names in its challenge, no file is read but one of its own.
func FuzzArcChallenge(f *testing.F) {
	for _, seed := range []string{"", "Basic realm=", "Basic realm=DIR/a.key", `Basic realm="DIR/a.key"`, "Basic realm=DIR/../x.key", "Basic realm=/etc/a.key"} {
		f.Add(seed)
	}
	parent := f.TempDir()
	dir := filepath.Join(parent, "tokens")
	if err := os.Mkdir(dir, 0o700); err != nil {
		f.Fatal(err)
	}
	for path, content := range map[string]string{filepath.Join(dir, "a.key"): "own", filepath.Join(parent, "x.key"): "canary"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, challenge string) {
		key, err := arcKey(strings.ReplaceAll(challenge, "DIR", dir), dir)
		if err == nil && key != "own" {
			t.Errorf("challenge %q had %q read", challenge, key)
		}
	})
}

// Whatever is mounted as the pod's token, what is asked is for an account that it names, or nothing is.
func FuzzAccount(f *testing.F) {
	for _, seed := range []string{"", "a.b.c", podToken(), signed("RS256", `{"sub":"system:serviceaccount:a:b","kubernetes.io":{"pod":7}}`), signed("RS256", `{"sub":["system"]}`)} {
		f.Add(seed)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, token string) {
		if err := os.WriteFile(filepath.Join(dir, "token"), []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		own, err := readAccount(dir) // always one, as there are no roots
		if err == nil || own.name != "" || len(token) > 40 && strings.Contains(err.Error(), token) {
			t.Errorf("account %+v, %v", own, err)
		}
	})
}
