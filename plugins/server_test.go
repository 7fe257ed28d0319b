package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

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
