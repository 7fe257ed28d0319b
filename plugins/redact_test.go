package plugins

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/credagent/credagent/plugins/providerpb"
)

// awkward holds every character that JSON, URLs, forms or HTML escape.
const awkward = `c4n/ry+1 "q\ü&<%41>😀` + "\t"

// encodings are the ways in which an answer may repeat a value.
func encodings() map[string]func(string) string {
	asJSON := func(s string) string {
		encoded, _ := json.Marshal(s)
		return string(encoded[1 : len(encoded)-1])
	}
	return map[string]func(string) string{
		"raw":            func(s string) string { return s },
		"JSON":           asJSON,
		"JSON, slashes":  func(s string) string { return strings.ReplaceAll(asJSON(s), "/", `\/`) },
		"JSON, ASCII":    asciiJSON,
		"form":           url.QueryEscape,
		"URL":            url.PathEscape,
		"lower-case hex": lowerHex,
		"form in JSON":   func(s string) string { return asJSON(url.QueryEscape(s)) },
		"HTML":           html.EscapeString,
		"form in HTML":   func(s string) string { return html.EscapeString(url.QueryEscape(s)) },
		"Go's quotes":    func(s string) string { q := fmt.Sprintf("%q", s); return q[1 : len(q)-1] },
	}
}

func asciiJSON(s string) string {
	var out strings.Builder
	for _, r := range s {
		if r < 0x10000 {
			fmt.Fprintf(&out, `\u%04X`, r)
			continue
		}
		fmt.Fprintf(&out, `\ud83d\ude00`) // the one such character in use here
	}
	return out.String()
}

func lowerHex(s string) string {
	var out strings.Builder
	for _, b := range []byte(s) {
		fmt.Fprintf(&out, "%%%02x", b)
	}
	return out.String()
}

func TestRedactorFindsEveryEncoding(t *testing.T) {
	r := redactor{hidden: [][]byte{[]byte(awkward)}}
	for name, encode := range encodings() {
		t.Run(name, func(t *testing.T) {
			quoted := encode(awkward)
			in := `{"error":"invalid_client","error_description":"bad ` + quoted + `, again ` + quoted + ` 100% & more\n"}`
			want := `{"error":"invalid_client","error_description":"bad [redacted], again [redacted] 100% & more\n"}`
			if got := r.text(in); got != want {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestRedactorLeavesTheRest(t *testing.T) {
	r := redactor{hidden: [][]byte{[]byte("sesame-sesame")}}
	for _, text := range []string{
		"", "%", "%4", "%zz", `\`, `\u`, `\u00`, `\uzzzz`, `\ud83d`, `\ud83d\u0041`, "&", "&amp", "&nothing;", "&#;", "+", "a+b%20c",
		"sesame-sesam", "\xff\xfe", strings.Repeat(`\`, 7), "&amp;&lt;\\\"%41",
	} {
		if got := r.text(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	overlapping := redactor{hidden: [][]byte{[]byte("abcdefgh"), []byte("efghijkl"), []byte("cdefghij")}}
	if got := overlapping.text("<abcdefghijkl>"); got != "<[redacted]>" {
		t.Errorf("overlapping values became %q", got)
	}
}

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
		"too short":       {authenticate: func(r *Request) { r.Form.Set("pin", "1234567") }, shown: []string{"1234567"}},
		"nothing is left": {authenticate: func(r *Request) { r.Form, r.Header = nil, nil }, shown: []string{"client_credentials"}},
	} {
		t.Run(name, func(t *testing.T) {
			in := asking("https://x.example")
			in.Form = append(in.Form, &providerpb.Parameter{Name: "resource", Value: "https://asked.example"})
			before, after := newRequest(in), newRequest(in)
			tc.authenticate(after)
			r := newRedactor(before, after)
			for _, value := range tc.hidden {
				if got := r.text("<" + value + ">"); got != "<[redacted]>" {
					t.Errorf("%q became %q", value, got)
				}
			}
			for _, value := range tc.shown {
				if got := r.text(value); got != value {
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

// Whatever surrounds it, a repeated value is hidden, in each encoding, and nothing else changes.
func FuzzRedactor(f *testing.F) {
	f.Add("sesame-sesame", `{"error":"`, `"}`)
	f.Add(awkward, `\u00e9%zz&amp;`, `\ud83d\ude00`)
	f.Add("aaaaaaaa", "aaa", "aaaaaaaaaaaa")
	f.Add("%25%25%25", "%", "%25")
	f.Fuzz(func(t *testing.T, value, before, after string) {
		if len(value) < shortestSecret || strings.ContainsAny(value, "[]") || value != strings.ToValidUTF8(value, "") || strings.ContainsFunc(value, func(r rune) bool { return r > 0xffff && r != '😀' }) {
			return
		}
		r := redactor{hidden: [][]byte{[]byte(value)}}
		for name, encode := range encodings() {
			quoted := encode(value)
			// The brackets keep a half escape in what surrounds it from swallowing the first character.
			text := before + "[" + quoted + "]" + after
			got := r.text(text)
			if !strings.Contains(got, "[[redacted]]") || strings.Contains(got, value) {
				t.Errorf("%s: %q in %q became %q", name, quoted, text, got)
			}
			if !strings.Contains(text, value) && r.text(before) == before && r.text(after) == after && got != before+"[[redacted]]"+after {
				t.Errorf("%s: %q became %q", name, text, got)
			}
		}
	})
}
