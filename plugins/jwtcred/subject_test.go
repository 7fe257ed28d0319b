package jwtcred

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/credtest"
)

func TestNoAuthenticationProblems(t *testing.T) {
	for config, want := range map[string]string{
		`{"auth_method":"none","subject_token":{"assertion_file":"/s"}}`: "",
		`{"auth_method":"none"}`: "subject_token: is needed with auth_method none",
		`{"auth_method":"none","assertion_file":"/a","subject_token":{"assertion_file":"/s"}}`: "auth_method: is none, so that no assertion authenticates the client; what is to be exchanged stands in subject_token",
		`{"auth_method":"private_key_jwt","subject_token":{"assertion_file":"/s"}}`:            "auth_method: is none, for grant token_exchange without client authentication, or left out",
		`{"assertion_file":"/a","send_client_id":true}`:                                        "send_client_id: is for auth_method none: with an assertion it is sent in any case",
		`{"auth_method":"none","subject_token":{"assertion_file":"s"}}`:                        "subject_token.assertion_file: is not an absolute path",
	} {
		var problems []string
		if want != "" {
			problems = []string{want}
		}
		t.Run(config, func(t *testing.T) { credtest.CheckProblems(t, Provider{}, config, problems) })
	}
}

// A client that does not authenticate exchanges a token, and gets none for client_credentials.
func TestNoAuthentication(t *testing.T) {
	config := map[string]any{"auth_method": "none", "subject_token": map[string]any{"assertion_file": credtest.File(t, "subject", []byte("opaque-subject"))}}
	for _, named := range []bool{false, true} {
		config["send_client_id"] = named
		credential := credtest.Load(t, Provider{}, config)
		r := &plugins.Request{ClientID: "app", Form: url.Values{"client_id": {"app"}, "grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}}, Header: http.Header{}}
		if err := credential.Authenticate(r); err != nil || r.Form.Has("client_id") != named || r.Form.Has("client_assertion") {
			t.Errorf("form %v, error %v", r.Form, err)
		}
		if token, err := credential.SubjectToken(t.Context(), "urn:ietf:params:oauth:token-type:access_token"); err != nil || token != "opaque-subject" {
			t.Errorf("token %q, error %v", token, err)
		}
		r.Form.Set("grant_type", "client_credentials")
		if err := credential.Authenticate(r); err == nil || !strings.HasPrefix(err.Error(), "auth_method: is none") {
			t.Errorf("error %v", err)
		}
	}
	source := credtest.Open(t, Provider{}, config)
	if files := source.Files(); len(files) != 1 {
		t.Errorf("files %v", files)
	}
	if checker, ok := source.(plugins.SubjectTokenChecker); !ok || checker.CheckSubjectToken("") != nil {
		t.Error("it says that it has no token to exchange")
	}
}
