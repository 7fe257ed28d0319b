package plugins

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/credagent/credagent/plugins/providerpb"
)

// fake is a provider whose every part a test may replace.
type fake struct {
	open         func(json.RawMessage) error
	files        func() []string
	load         func(context.Context) (Credential, error)
	authenticate func(*Request) error
}

func (f fake) Open(config json.RawMessage) (Source, error) {
	if f.open != nil {
		if err := f.open(config); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f fake) Files() []string {
	if f.files != nil {
		return f.files()
	}
	return []string{"/etc/fake"}
}

func (f fake) Load(ctx context.Context) (Credential, error) {
	if f.load != nil {
		return f.load(ctx)
	}
	authenticate := f.authenticate
	if authenticate == nil {
		authenticate = func(*Request) error { return nil }
	}
	return Credential{NotAfter: time.Unix(2_000_000_000, 0), Identity: "sha256:AB", Authenticate: authenticate}, nil
}

// posting adds a form parameter, as client_secret_post does.
func posting(name, value string) fake {
	return fake{authenticate: func(r *Request) error {
		r.Form.Set(name, value)
		return nil
	}}
}

// exchangeWith asks a fresh server of p; exchange asks the one it is given.
func exchangeWith(t *testing.T, p Provider, in *providerpb.ExchangeRequest) *providerpb.ExchangeReply {
	t.Helper()
	return exchange(t, &server{provider: p}, in)
}

func exchange(t *testing.T, s *server, in *providerpb.ExchangeRequest) *providerpb.ExchangeReply {
	t.Helper()
	reply, err := s.Exchange(t.Context(), in)
	if err != nil {
		t.Fatalf("Exchange: %v", err)
	}
	return reply
}

func asking(endpoint string) *providerpb.ExchangeRequest {
	return &providerpb.ExchangeRequest{
		TokenEndpoint:       endpoint,
		ClientId:            "app",
		Form:                []*providerpb.Parameter{{Name: "grant_type", Value: "client_credentials"}},
		TimeoutMilliseconds: 10_000,
		Config:              []byte("{}"),
	}
}

// counting serves handler over plain HTTP and counts the requests that reach it.
func counting(t *testing.T, handler http.HandlerFunc) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var requests atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		handler(w, r)
	}))
	t.Cleanup(s.Close)
	return s, &requests
}

func mustAnswer(t *testing.T, reply *providerpb.ExchangeReply) *providerpb.Answer {
	t.Helper()
	if reply.GetAnswer() == nil {
		t.Fatalf("got no answer but %v: %s", reply.GetFailure().GetKind(), reply.GetFailure().GetMessage())
	}
	return reply.GetAnswer()
}

func mustFail(t *testing.T, reply *providerpb.ExchangeReply, kind providerpb.Failure_Kind) string {
	t.Helper()
	failure := reply.GetFailure()
	if failure == nil {
		t.Fatalf("got answer %d instead of a failure", reply.GetAnswer().GetStatus())
	}
	if failure.GetKind() != kind {
		t.Fatalf("failure is %v (%s), want %v", failure.GetKind(), failure.GetMessage(), kind)
	}
	return failure.GetMessage()
}

func headerOf(answer *providerpb.Answer, name string) string {
	for _, header := range answer.GetHeaders() {
		if header.GetName() == name {
			return header.GetValue()
		}
	}
	return ""
}

// quiet is the error log of a server that is meant to see handshakes go wrong.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
