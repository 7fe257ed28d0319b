package store

import (
	"net/url"
	"testing"
)

func TestBindingDiffers(t *testing.T) {
	wanted := Binding{ClientID: "c", Server: "s", Request: "r", Provider: "p"}
	for want, b := range map[string]Binding{
		"":                             wanted,
		"another client_id":            {ClientID: "x", Server: "x", Request: "x", Provider: "x"},
		"another authorization server": {ClientID: "c", Server: "x", Request: "r", Provider: "p"},
		"another grant, subject, scope, audience or parameter": {ClientID: "c", Server: "s", Request: "x", Provider: "p"},
		"another credential provider":                          {ClientID: "c", Server: "s", Request: "r", Provider: "x"},
	} {
		if got := b.Differs(wanted); got != want {
			t.Errorf("%v.Differs() = %q, want %q", b, got, want)
		}
	}
}

func TestRequestHash(t *testing.T) {
	base := url.Values{"grant_type": {"client_credentials"}, "scope": {"read write"}, "resource": {"a", "b"}}
	for name, tc := range map[string]struct {
		form url.Values
		same bool
	}{
		"the same":               {url.Values{"resource": {"a", "b"}, "scope": {"read write"}, "grant_type": {"client_credentials"}}, true},
		"scopes in other order":  {url.Values{"resource": {"a", "b"}, "scope": {"write  read"}, "grant_type": {"client_credentials"}}, true},
		"another scope":          {url.Values{"resource": {"a", "b"}, "scope": {"read"}, "grant_type": {"client_credentials"}}, false},
		"scopes run together":    {url.Values{"resource": {"a", "b"}, "scope": {"readwrite"}, "grant_type": {"client_credentials"}}, false},
		"one resource":           {url.Values{"resource": {"a"}, "scope": {"read write"}, "grant_type": {"client_credentials"}}, false},
		"resources run together": {url.Values{"resource": {"a&resource=b"}, "scope": {"read write"}, "grant_type": {"client_credentials"}}, false},
		"a parameter more":       {url.Values{"resource": {"a", "b"}, "scope": {"read write"}, "grant_type": {"client_credentials"}, "x": {""}}, false},
		"nothing":                {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			if same := RequestHash(tc.form) == RequestHash(base); same != tc.same {
				t.Errorf("the hash is the same: %t, want %t", same, tc.same)
			}
		})
	}
}
