package devserver

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/secret"
)

// What ParseFault takes comes back from String, and can be injected.
func FuzzParseFault(f *testing.F) {
	for _, help := range Faults() {
		f.Add(help.Name + "*2")
	}
	f.Fuzz(func(t *testing.T, text string) {
		fault, err := ParseFault(text)
		if err != nil {
			return
		}
		if again, err := ParseFault(fault.String()); err != nil || again != fault {
			t.Errorf("%q reads as %+v, but its form %q as %+v, %v", text, fault, fault, again, err)
		}
		if filled, err := fault.complete(); err != nil || filled.String() != fault.String() {
			t.Errorf("%q cannot be injected as it is: %+v, %v", text, filled, err)
		}
	})
}

// Whatever parses is made of exactly the bytes it was read from, and is nobody's signature.
func FuzzParseAssertion(f *testing.F) {
	_, _, cert, err := NewCertificate("app", KeyEC, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	client := Client{ID: "app"}
	client.Certificates = append(client.Certificates, cert)
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseAssertion(text)
		if err != nil {
			return
		}
		if again := string(a.signed) + "." + base64.RawURLEncoding.EncodeToString(a.signature); again != text {
			t.Errorf("%q was read as %q", text, again)
		}
		if _, refused := client.verify(a, false); refused == nil {
			t.Errorf("%q was believed", text)
		}
		// Times that nobody can mean must be told from good ones too.
		if a.claims.checkTimes(time.Now()) == nil && !a.claims.expiry().After(time.Now()) {
			t.Errorf("%q has expired and was let through", text)
		}
	})
}

// Any request gets a JSON answer and a place in the log, without its credential.
func FuzzTokenRequest(f *testing.F) {
	f.Add("grant_type=client_credentials&client_id=app&client_secret=canary-8f2a&scope=read", "")
	f.Add("grant_type=client_credentials&scope=read", "Basic YXBwOmNhbmFyeS04ZjJh")
	f.Add("grant_type=client_credentials&client_assertion=a.b.c", "Basic YXBwOiU")
	f.Fuzz(func(t *testing.T, body, authorization string) {
		server, err := New(Options{Clients: []Client{{ID: "app", Secret: secret.New("canary-8f2a")}}})
		if err != nil {
			t.Fatal(err)
		}
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/token", strings.NewReader(body))
		request.Header.Set("Content-Type", formType)
		request.Header.Set("Authorization", authorization)
		answer := httptest.NewRecorder()
		server.Handler().ServeHTTP(answer, request)
		if !json.Valid(answer.Body.Bytes()) {
			t.Errorf("answer = %d %q", answer.Code, answer.Body)
		}
		entry := server.Requests()[0]
		if (entry.Outcome == outcomeIssued) != (answer.Code == http.StatusOK) {
			t.Errorf("outcome %q with status %d", entry.Outcome, answer.Code)
		}
		if entry.Form.Has("client_secret") || entry.Form.Has("client_assertion") || entry.Header.Get("Authorization") != "" {
			t.Errorf("log = %+v", entry)
		}
	})
}
