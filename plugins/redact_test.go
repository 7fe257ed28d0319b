package plugins

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/credagent/credagent/plugins/providerpb"
)

func TestNewRedactorHidesWhatAuthenticated(t *testing.T) {
	basic := base64.StdEncoding.EncodeToString([]byte("app:p%40ss-word+1"))
	for name, tc := range map[string]struct {
		authenticate func(*Request)
		hidden       []string
		shown        []string
	}{
		"form": {
			authenticate: func(r *Request) { r.Form.Set("client_secret", "form-secret") },
			hidden:       []string{"form-secret"},
			shown:        []string{"client_credentials", "client_secret"},
		},
		"assertion": {
			authenticate: func(r *Request) {
				r.Form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
				r.Form.Set("client_assertion", "aaaa.bbbb.cccc")
			},
			hidden: []string{"aaaa.bbbb.cccc"},
			shown:  []string{"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		},
		"second value": {
			authenticate: func(r *Request) { r.Form.Add("resource", "added-secret") },
			hidden:       []string{"added-secret"},
			shown:        []string{"https://asked.example"},
		},
		"Basic": {
			authenticate: func(r *Request) { r.Header.Set("Authorization", "basic "+basic) },
			hidden:       []string{basic, "p%40ss-word+1", "p@ss-word 1"},
		},
		"Basic, not encoded": {
			authenticate: func(r *Request) { r.SetBasic("app", "100%-secret") },
			hidden:       []string{"100%-secret"},
		},
		"Bearer":          {authenticate: func(r *Request) { r.Header.Set("Authorization", "Bearer bearer-secret") }, hidden: []string{"bearer-secret"}},
		"Basic, damaged":  {authenticate: func(r *Request) { r.Header.Set("Authorization", "Basic !damaged!") }, hidden: []string{"!damaged!"}},
		"header":          {authenticate: func(r *Request) { r.Header.Set("X-Api-Key", "header-secret") }, hidden: []string{"header-secret"}},
		"short":           {authenticate: func(r *Request) { r.Form.Set("pin", "1234567") }, hidden: []string{"1234567"}, shown: []string{"81234567"}},
		"too short":       {authenticate: func(r *Request) { r.Form.Set("pin", "123") }, shown: []string{"123"}},
		"nothing is left": {authenticate: func(r *Request) { r.Form, r.Header = nil, nil }, shown: []string{"client_credentials"}},
	} {
		t.Run(name, func(t *testing.T) {
			in := asking("https://x.example")
			in.Form = append(in.Form, &providerpb.Parameter{Name: "resource", Value: "https://asked.example"})
			before, after := newRequest(in), newRequest(in)
			tc.authenticate(after)
			r := newRedactor(before, after)
			for _, value := range tc.hidden {
				if got := r.Text("<" + value + ">"); got != "<[redacted]>" {
					t.Errorf("%q became %q", value, got)
				}
			}
			for _, value := range tc.shown {
				if got := r.Text(value); got != value {
					t.Errorf("%q became %q", value, got)
				}
			}
		})
	}
}

// SetBasic sends id and secret as they are, as some providers do.
func (r *Request) SetBasic(id, secret string) {
	r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(id+":"+secret)))
}

const canary = "canary-7/+%aa bb"

// A server that repeats what authenticated the request does not get it to the agent.
func TestExchangeHidesWhatTheServerRepeats(t *testing.T) {
	for _, status := range []int{201, 302, 400, 401, 500} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			s, _ := counting(t, func(w http.ResponseWriter, r *http.Request) {
				_ = r.ParseForm()
				w.Header().Set("X-Request-Id", r.PostForm.Get("client_secret"))
				w.WriteHeader(status)
				_ = json.NewEncoder(w).Encode(map[string]any{"error": "invalid_client", "form": r.PostForm, "body": r.PostForm.Encode()})
			})
			answer := mustAnswer(t, exchangeWith(t, posting("client_secret", canary), asking(s.URL)))
			body := string(answer.GetBody())
			want := `{"body":"client_id=app\u0026client_secret=[redacted]\u0026grant_type=client_credentials","error":"invalid_client","form":{"client_id":["app"],"client_secret":["[redacted]"],"grant_type":["client_credentials"]}}` + "\n"
			if body != want || headerOf(answer, "X-Request-Id") != "[redacted]" {
				t.Errorf("answer %v", answer)
			}
		})
	}
}

// A token answer stays as it is, and whatever is changed keeps the protocol's bounds.
func TestExchangeRedactsErrorsOnly(t *testing.T) {
	t.Run("success stays whole", func(t *testing.T) {
		const grant = `{"access_token":"` + canary + `","token_type":"Bearer"}`
		s, _ := counting(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, grant) })
		answer := mustAnswer(t, exchangeWith(t, posting("client_secret", canary), asking(s.URL)))
		if string(answer.GetBody()) != grant {
			t.Errorf("body %s", answer.GetBody())
		}
	})
	t.Run("an error with status 200 does not", func(t *testing.T) {
		s, _ := counting(t, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"error":"invalid_client","error_description":"bad secret `+canary+`"}`)
		})
		answer := mustAnswer(t, exchangeWith(t, posting("client_secret", canary), asking(s.URL)))
		if strings.Contains(string(answer.GetBody()), canary) {
			t.Error("the secret came back")
		}
	})
	t.Run("never larger than the protocol allows", func(t *testing.T) {
		s, _ := counting(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			_, _ = w.Write(bytes.Repeat([]byte("12345678"), maxBody/8))
		})
		answer := mustAnswer(t, exchangeWith(t, posting("client_secret", "12345678"), asking(s.URL)))
		if len(answer.GetBody()) != maxBody || bytes.Contains(answer.GetBody(), []byte("12345678")) {
			t.Errorf("%d bytes", len(answer.GetBody()))
		}
	})
}

// Nor do the messages of an exchange without an answer repeat it.
func TestExchangeHidesSecretsInItsErrors(t *testing.T) {
	t.Run("no HTTP", func(t *testing.T) {
		url, _ := raw(t, func(c net.Conn) { fmt.Fprintf(c, "echo: %s\r\n\r\n", canary) })
		message := mustFail(t, exchangeWith(t, posting("client_secret", canary), asking(url)), providerpb.Failure_KIND_NETWORK)
		if message != "the server's answer is malformed: it is not HTTP/1.1" {
			t.Errorf("message %q", message)
		}
	})
	t.Run("trailing fragment of a status line", func(t *testing.T) {
		url, _ := raw(t, func(c net.Conn) { fmt.Fprintf(c, "HTTP/1.1 %s\r\n\r\n", canary) })
		if message := mustFail(t, exchangeWith(t, posting("client_secret", canary), asking(url)), providerpb.Failure_KIND_NETWORK); strings.Contains(message, "canary") {
			t.Errorf("message %q", message)
		}
	})
	t.Run("the provider's own error", func(t *testing.T) {
		p := fake{authenticate: func(r *Request) error {
			r.Form.Set("client_secret", canary)
			return errors.New("refusing " + canary)
		}}
		message := mustFail(t, exchangeWith(t, p, asking("http://127.0.0.1:1")), providerpb.Failure_KIND_CREDENTIAL)
		if message != "refusing [redacted]" {
			t.Errorf("message %q", message)
		}
	})
}

// A proxy that repeats the password with which it was asked does not get it to the agent.
func TestExchangeHidesTheProxysPassword(t *testing.T) {
	proxy, _ := counting(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, "no such user: %s, that is user:pass/word-4711, or %s", r.Header.Get("Proxy-Authorization"), url.QueryEscape("pass/word-4711"))
	})
	in := asking("http://192.0.2.1/token")
	in.Proxy = strings.Replace(proxy.URL, "//", "//user:pass/word-4711@", 1)
	body := string(mustAnswer(t, exchangeWith(t, fake{}, in)).GetBody())
	if strings.Count(body, "[redacted]") != 3 || strings.Contains(body, "4711") {
		t.Errorf("body %s", body)
	}
}
