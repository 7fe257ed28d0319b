package canary

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
)

func TestFindsEveryForm(t *testing.T) {
	const text = `canary "of" <the> test & 100% ~é`
	secret := Text("it", text)
	quoted, _ := json.Marshal(map[string]string{"error": "who is " + text + "?"})
	for want, data := range map[string]string{
		"it, as it is":       "a " + text + " z",
		"it, in a form":      url.Values{"client_secret": {text}}.Encode(),
		"it, in a URL":       "/" + url.PathEscape(text),
		"it, in JSON":        string(quoted),
		"it, quoted":         fmt.Sprintf("%q", "is "+text),
		"it, in hexadecimal": fmt.Sprintf("%x", "is "+text),
	} {
		if found := Find([]byte(data), secret); !slices.Contains(found, want) {
			t.Errorf("%s: found is %q", want, found)
		}
	}
	for before := range 7 {
		for after := range 7 {
			around := strings.Repeat("x", before) + text + strings.Repeat("y", after)
			if len(Find([]byte(base64.StdEncoding.EncodeToString([]byte(around))), secret)) == 0 {
				t.Errorf("not found in Base64 with %d bytes before it and %d after it", before, after)
			}
			if len(Find([]byte(base64.RawURLEncoding.EncodeToString([]byte(around))), secret)) == 0 {
				t.Errorf("not found in URLs' Base64 with %d bytes before it and %d after it", before, after)
			}
		}
	}
	if found := Find([]byte("canary of another test, and Y2FuYXJ5"), secret); len(found) != 0 {
		t.Errorf("found is %q", found)
	}
}

func TestFindsKeys(t *testing.T) {
	for _, kind := range []devserver.KeyKind{devserver.KeyRSA, devserver.KeyEC, devserver.KeyEC384, devserver.KeyEd25519} {
		_, keyPEM, _, err := devserver.NewCertificate("app", kind, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := Key(string(kind), keyPEM)
		if err != nil {
			t.Fatal(err)
		}
		if len(secret.forms) < 4 {
			t.Errorf("%s has only %d forms", kind, len(secret.forms))
		}
		for _, f := range secret.forms {
			around := slices.Concat([]byte("before"), f.text, []byte("after"))
			if found := Find(around, secret); !slices.Contains(found, secret.Name+", "+f.name) {
				t.Errorf("%s: found is %q", f.name, found)
			}
		}
	}
	if _, err := Key("none", []byte("canary")); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("no key: %v", err)
	}
}
