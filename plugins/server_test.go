package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/plugins/providerpb"
)

const withheld = "the provider panicked; its text is withheld, as it may hold a secret"

func TestCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		provider fake
		load     bool
		problems []string
		failure  string
		identity string
	}{
		"sound":           {},
		"sound, loaded":   {load: true, identity: "sha256:AB"},
		"not loaded":      {provider: fake{load: func(context.Context) (Credential, error) { return Credential{}, errors.New("unused") }}},
		"does not load":   {provider: fake{load: func(context.Context) (Credential, error) { return Credential{}, errors.New("no file\n\xff") }}, load: true, failure: "no file ?"},
		"problems":        {provider: fake{open: func(json.RawMessage) error { return severalProblems() }}, load: true, problems: []string{"a: first", "b: second\x20", "whole"}},
		"panic in Open":   {provider: fake{open: func(json.RawMessage) error { panic("canary") }}, problems: []string{withheld}},
		"panic in Files":  {provider: fake{files: func() []string { panic("canary") }}, problems: []string{withheld}},
		"panic in Load":   {provider: fake{load: func(context.Context) (Credential, error) { panic("canary") }}, load: true, failure: withheld},
		"identity, plain": {provider: fake{load: func(context.Context) (Credential, error) { return Credential{Identity: "a\xff\n"}, nil }}, load: true, identity: "a? "},
	} {
		t.Run(name, func(t *testing.T) {
			reply, err := (&server{provider: tc.provider}).Check(t.Context(), &providerpb.CheckRequest{Config: []byte("{}"), Load: tc.load})
			if err != nil {
				t.Fatal(err)
			}
			var problems []string
			for _, p := range reply.GetProblems() {
				problems = append(problems, strings.TrimPrefix(p.GetKey()+": "+p.GetMessage(), ": "))
			}
			if strings.Join(problems, "|") != strings.Join(tc.problems, "|") {
				t.Errorf("problems %q", problems)
			}
			if reply.GetFailure().GetMessage() != tc.failure || (tc.failure != "" && reply.GetFailure().GetKind() != providerpb.Failure_KIND_CREDENTIAL) {
				t.Errorf("failure %v", reply.GetFailure())
			}
			if reply.GetCredential().GetIdentity() != tc.identity || reply.GetVersion() == "" {
				t.Errorf("reply %v", reply)
			}
		})
	}
}

func severalProblems() error {
	return errors.Join(
		&ConfigError{"a", "first"},
		errors.Join(&ConfigError{"b", "second\n"}, &ConfigError{"a", "second"}),
		errors.New("whole"),
	)
}

// busy is the error of what hands credentials out and wants to be left alone.
func busy() error {
	return &Unavailable{Message: "too many requests", Status: 429, Header: http.Header{
		"Retry-After": {"30"}, "Date": {"today"}, "Set-Cookie": {"canary"}, "X-Secret": {"canary"},
	}}
}

// The agent hears for how long to leave alone what hands a credential out, by either question, and of its
// answer nothing else.
func TestUnavailableCredentials(t *testing.T) {
	s := &server{provider: fake{load: func(context.Context) (Credential, error) { return Credential{}, busy() }}}
	checked, err := s.Check(t.Context(), &providerpb.CheckRequest{Config: []byte("{}"), Load: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, failure := range map[string]*providerpb.Failure{
		"check":    checked.GetFailure(),
		"exchange": exchange(t, s, asking("https://127.0.0.1:1/token")).GetFailure(),
	} {
		var headers []string
		for _, header := range failure.GetHeaders() {
			headers = append(headers, header.GetName()+": "+header.GetValue())
		}
		if failure.GetKind() != providerpb.Failure_KIND_UNAVAILABLE || failure.GetStatus() != 429 || strings.Join(headers, "\n") != "Date: today\nRetry-After: 30" {
			t.Errorf("%s: failure %v", name, failure)
		}
	}
}

// A credential that never loads does not have the agent give its provider up: the agent is answered in time.
func TestLoadingEndsBeforeTheAgentGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{provider: fake{load: func(ctx context.Context) (Credential, error) {
			<-ctx.Done()
			return Credential{}, &Unavailable{Message: "no answer"}
		}}}
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		begun := time.Now()
		reply, err := s.Exchange(ctx, asking("https://127.0.0.1:1/token"))
		if took := time.Since(begun); err != nil || took != 10*time.Second || reply.GetFailure().GetMessage() != "no answer" {
			t.Errorf("after %v: %v, %v", took, reply, err)
		}
		checked, err := s.Check(ctx, &providerpb.CheckRequest{Config: []byte("{}"), Load: true})
		if took := time.Since(begun); err != nil || took >= 15*time.Second || checked.GetFailure().GetMessage() != "no answer" {
			t.Errorf("after %v: %v, %v", took, checked, err)
		}
	})
}

// Nothing is sent when there is nothing to authenticate with.
func TestExchangeWithoutCredential(t *testing.T) {
	s, requests := counting(t, nil)
	for name, tc := range map[string]struct {
		provider fake
		kind     providerpb.Failure_Kind
		message  string
	}{
		"config":                {fake{open: func(json.RawMessage) error { return severalProblems() }}, providerpb.Failure_KIND_CONFIG, "a: first; b: second ; whole"},
		"panic in Open":         {fake{open: func(json.RawMessage) error { panic("canary") }}, providerpb.Failure_KIND_CONFIG, withheld},
		"panic in Files":        {fake{files: func() []string { panic("canary") }}, providerpb.Failure_KIND_CONFIG, withheld},
		"load":                  {fake{load: func(context.Context) (Credential, error) { return Credential{}, errors.New("no file") }}, providerpb.Failure_KIND_CREDENTIAL, "no file"},
		"load, not now":         {fake{load: func(context.Context) (Credential, error) { return Credential{}, fmt.Errorf("loading: %w", busy()) }}, providerpb.Failure_KIND_UNAVAILABLE, "loading: too many requests"},
		"panic in Load":         {fake{load: func(context.Context) (Credential, error) { panic("canary") }}, providerpb.Failure_KIND_CREDENTIAL, withheld},
		"panic in Authenticate": {fake{authenticate: func(*Request) error { panic("canary") }}, providerpb.Failure_KIND_CREDENTIAL, withheld},
		"no Authenticate":       {fake{load: func(context.Context) (Credential, error) { return Credential{}, nil }}, providerpb.Failure_KIND_CREDENTIAL, withheld},
		"header is none":        {fake{authenticate: func(r *Request) error { r.Header.Set("X-Key", "canary-canary\n"); return nil }}, providerpb.Failure_KIND_NETWORK, `net/http: invalid header field value for "X-Key"`},
	} {
		t.Run(name, func(t *testing.T) {
			if message := mustFail(t, exchangeWith(t, tc.provider, asking(s.URL)), tc.kind); message != tc.message {
				t.Errorf("message %q", message)
			}
		})
	}
	if requests.Load() != 0 {
		t.Errorf("%d requests were sent", requests.Load())
	}
}
