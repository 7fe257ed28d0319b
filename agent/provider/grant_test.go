//go:build unix

package provider

import (
	"errors"
	"strings"
	"testing"
)

// A provider that is older than the grant is asked for nothing that it would get wrong: there is a clear
// failure of the configuration, and its process goes on.
func TestProviderOlderThanTheGrant(t *testing.T) {
	r := newRig(t, nil)
	p := r.process(lying, falsehood{Exchange: []byte{}})
	request, requests := tokenServer(t)
	request.Grant = &Grant{Assertion: &Assertion{Subject: "user"}}
	_, err := p.Exchange(t.Context(), request)
	var failure *Failure
	if !errors.As(err, &failure) || failure.Kind != KindConfig || !strings.Contains(failure.Message, "too old for this grant") {
		t.Errorf("error %v", err)
	}
	problems, err := p.CheckGrant(t.Context(), *request.Grant, false)
	if err != nil || len(problems) != 1 || problems[0].Key != "grant" {
		t.Errorf("problems %v, error %v", problems, err)
	}
	if requests.Load() != 0 || r.starts.Load() != 1 {
		t.Errorf("%d requests, %d starts", requests.Load(), r.starts.Load())
	}
}

// The kit's own providers say that they cannot sign.
func TestProviderThatCannotSign(t *testing.T) {
	r := newRig(t, nil)
	p := r.process(behaving, puppet{})
	request, requests := tokenServer(t)
	request.Grant = &Grant{Assertion: &Assertion{Subject: "user"}}
	_, err := p.Exchange(t.Context(), request)
	var failure *Failure
	if !errors.As(err, &failure) || failure.Kind != KindConfig || failure.Sent() || requests.Load() != 0 {
		t.Errorf("error %v after %d requests", err, requests.Load())
	}
	problems, err := p.CheckGrant(t.Context(), *request.Grant, false)
	if err != nil || len(problems) != 1 || problems[0].Key != "grant" {
		t.Errorf("problems %v, error %v", problems, err)
	}
}
