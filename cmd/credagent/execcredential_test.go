package main

import (
	"encoding/json"
	"strings"
	"testing"
)

const heldCredential = `{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"client.authentication.k8s.io/v1"}}`

func TestExecCredentialIsOfTheVersionAskedFor(t *testing.T) {
	for name, tc := range map[string]struct{ info, want string }{
		"nobody asks":         {"", "v1"},
		"v1":                  {`{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":true}}`, "v1"},
		"v1beta1":             {`{"apiVersion":"client.authentication.k8s.io/v1beta1","kind":"ExecCredential","spec":{"cluster":{"server":"https://k"}}}`, "v1beta1"},
		"without a kind":      {`{"apiVersion":"client.authentication.k8s.io/v1beta1"}`, "v1beta1"},
		"alpha, long gone":    {`{"apiVersion":"client.authentication.k8s.io/v1alpha1","kind":"ExecCredential"}`, ""},
		"one to come":         {`{"apiVersion":"client.authentication.k8s.io/v2","kind":"ExecCredential"}`, ""},
		"another group":       {`{"apiVersion":"authentication.k8s.io/v1","kind":"ExecCredential"}`, ""},
		"another kind":        {`{"apiVersion":"client.authentication.k8s.io/v1","kind":"TokenReview"}`, ""},
		"no version":          {`{"kind":"ExecCredential"}`, ""},
		"not JSON":            {"v1", ""},
		"not an object":       {"[]", ""},
		"an escape in it":     {`{"apiVersion":"client.authentication.k8s.io/v1\u001b[2J"}`, ""},
		"a version of a type": {`{"apiVersion":1}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := inVersion([]byte(heldCredential), tc.info)
			if tc.want == "" {
				if err == nil || strings.ContainsRune(err.Error(), 0x1b) {
					t.Errorf("%q, %v", got, err)
				}
				return
			}
			var answer struct {
				APIVersion string `json:"apiVersion"`
				Status     struct{ Token string }
			}
			if err := json.Unmarshal(got, &answer); err != nil || answer.APIVersion != execGroup+tc.want || answer.Status.Token != execGroup+"v1" {
				t.Errorf("%s, %v", got, err)
			}
		})
	}
}

func FuzzExecInfo(f *testing.F) {
	f.Add(`{"apiVersion":"client.authentication.k8s.io/v1beta1","kind":"ExecCredential"}`)
	f.Add(`{"apiVersion":"client.authentication.k8s.io/v9"}`)
	f.Add("null")
	f.Fuzz(func(t *testing.T, info string) {
		got, err := inVersion([]byte(heldCredential), info)
		if err == nil && !json.Valid(got) {
			t.Errorf("%q", got)
		}
	})
}
