package secretcred

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/credtest"
	"github.com/credagent/credagent/plugins/providerpb"
)

const canary = "canary-5e4d~ +%/:&é"

func TestOpenFindsEveryProblem(t *testing.T) {
	const oneOf = "exactly one of secret_file and secret_env is needed"
	const known = ": unknown key; known are auth_method, secret_env, secret_file, subject_token"
	for name, tc := range map[string]struct {
		config string
		want   []string
	}{
		"file":           {`{"secret_file":"/s"}`, nil},
		"variable":       {`{"secret_env":"S","auth_method":"client_secret_post"}`, nil},
		"nothing":        {`{}`, []string{oneOf}},
		"both":           {`{"secret_file":"/s","secret_env":"S"}`, []string{oneOf}},
		"relative":       {`{"secret_file":"s"}`, []string{`secret_file: is not an absolute path`}},
		"unknown method": {`{"secret_file":"/s","auth_method":"private_key_jwt"}`, []string{"auth_method: is neither client_secret_basic nor client_secret_post"}},
		"several at once": {`{"secret_fiel":"/s","secret_file":"s","secret_env":"S","auth_method":1,"secret":"x"}`, []string{
			"auth_method: is not a string", "secret" + known, "secret_fiel" + known, oneOf, `secret_file: is not an absolute path`,
		}},
	} {
		t.Run(name, func(t *testing.T) { credtest.CheckProblems(t, Provider{}, tc.config, tc.want) })
	}
}

func TestFiles(t *testing.T) {
	if files := credtest.Open(t, Provider{}, map[string]any{"secret_file": "/s"}).Files(); len(files) != 1 || files[0] != "/s" {
		t.Errorf("files %v", files)
	}
	if files := credtest.Open(t, Provider{}, map[string]any{"secret_env": "S"}).Files(); len(files) != 0 {
		t.Errorf("files %v", files)
	}
}

func TestLoadFails(t *testing.T) {
	large := []byte(strings.Repeat(canary, 1<<20/len(canary)+1))
	t.Setenv("SECRETCRED_TEST_EMPTY", "")
	for name, tc := range map[string]struct {
		config map[string]any
		want   string
	}{
		"missing":         {map[string]any{"secret_file": filepath.Join(t.TempDir(), "no")}, "no such file or directory"},
		"a directory":     {map[string]any{"secret_file": t.TempDir()}, "is a directory"},
		"empty":           {map[string]any{"secret_file": credtest.File(t, "s", nil)}, "it is empty"},
		"line break only": {map[string]any{"secret_file": credtest.File(t, "s", []byte("\n"))}, "it is empty"},
		"too large":       {map[string]any{"secret_file": credtest.File(t, "s", large)}, "larger than 1 MiB"},
		"no variable":     {map[string]any{"secret_env": "SECRETCRED_TEST_NONE"}, "the environment variable that it names is not set or empty"},
		"empty variable":  {map[string]any{"secret_env": "SECRETCRED_TEST_EMPTY"}, "is not set or empty"},
	} {
		t.Run(name, func(t *testing.T) {
			credtest.CheckFails(t, credtest.Open(t, Provider{}, tc.config), tc.want, []byte(canary))
		})
	}
}

func TestAuthenticate(t *testing.T) {
	file := credtest.File(t, "secret", []byte(canary+"\n"))
	t.Setenv("SECRETCRED_TEST", canary)
	for name, tc := range map[string]struct {
		method    string
		fromEnv   bool
		supported []string
		post      bool
	}{
		"by default":           {},
		"configured basic":     {method: methodBasic, supported: []string{methodPost}},
		"configured post":      {method: methodPost, supported: []string{methodBasic}, post: true},
		"server knows post":    {supported: []string{methodPost, "private_key_jwt"}, post: true},
		"server knows both":    {supported: []string{methodPost, methodBasic}},
		"server knows neither": {supported: []string{"private_key_jwt"}},
		"variable":             {fromEnv: true, method: methodPost, post: true},
	} {
		t.Run(name, func(t *testing.T) {
			config := map[string]any{"auth_method": tc.method}
			if tc.fromEnv {
				config["secret_env"] = "SECRETCRED_TEST"
			} else {
				config["secret_file"] = file
			}
			r := &plugins.Request{ClientID: "app:1 ü", Form: url.Values{"client_id": {"app:1 ü"}}, Header: http.Header{}, AuthMethodsSupported: tc.supported}
			credential := credtest.Load(t, Provider{}, config)
			if err := credential.Authenticate(r); err != nil {
				t.Fatal(err)
			}
			if tc.post {
				if r.Form.Get("client_secret") != canary || r.Form.Get("client_id") != "app:1 ü" || r.Header.Get("Authorization") != "" {
					t.Errorf("form %v, header %v", r.Form, r.Header)
				}
				return
			}
			id, password, ok := (&http.Request{Header: r.Header}).BasicAuth()
			if !ok || id != "app%3A1+%C3%BC" || password != "canary-5e4d~+%2B%25%2F%3A%26%C3%A9" || len(r.Form) != 0 {
				t.Errorf("Basic %q %q, form %v", id, password, r.Form)
			}
			if !credential.NotAfter.IsZero() || credential.Identity != "" {
				t.Errorf("credential %+v", credential)
			}
		})
	}
}

// The secret is read for every request, and a server that repeats it does not get it out.
func TestExchangeOverTheProtocol(t *testing.T) {
	file := credtest.File(t, "secret", []byte("first-secret-of-two\n"))
	var got []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		got = append(got, password)
		http.Error(w, fmt.Sprintf("who is %s, %s?", password, r.Header.Get("Authorization")), http.StatusUnauthorized)
	}))
	defer s.Close()
	client := credtest.Serve(t, Provider{})
	in := &providerpb.ExchangeRequest{
		TokenEndpoint: s.URL, ClientId: "app", TimeoutMilliseconds: 10_000,
		Config: credtest.Config(t, map[string]any{"secret_file": file}),
	}
	for _, secret := range []string{"first-secret-of-two", "second-secret-of-two"} {
		if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
		reply, err := client.Exchange(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if body := string(reply.GetAnswer().GetBody()); body != "who is [redacted], [redacted]?\n" {
			t.Errorf("body %q", body)
		}
		credtest.CheckHidden(t, reply.String(), []byte(secret))
	}
	if strings.Join(got, " ") != "first-secret-of-two second-secret-of-two" {
		t.Errorf("the server got %q", got)
	}
}
