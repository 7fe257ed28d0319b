package plugins

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/internal/handshake"
	"github.com/credagent/credagent/plugins/providerpb"
)

// A process sends its secret only where the agent has said over the pipe, whoever asks it.
func TestExchangeIsBound(t *testing.T) {
	own, ownRequests := counting(t, func(http.ResponseWriter, *http.Request) {})
	other, otherRequests := counting(t, func(http.ResponseWriter, *http.Request) {})
	for name, ask := range map[string]func(*providerpb.ExchangeRequest){
		"another server": func(in *providerpb.ExchangeRequest) { in.TokenEndpoint = other.URL },
		"another port":   func(in *providerpb.ExchangeRequest) { in.TokenEndpoint = "http://127.0.0.1:1" },
		"another scheme": func(in *providerpb.ExchangeRequest) { in.TokenEndpoint = strings.Replace(own.URL, "http", "https", 1) },
		"another proxy":  func(in *providerpb.ExchangeRequest) { in.Proxy = other.URL },
		"other roots":    func(in *providerpb.ExchangeRequest) { in.TrustRoots = []byte("roots") },
		"a user's host": func(in *providerpb.ExchangeRequest) {
			in.TokenEndpoint = strings.Replace(own.URL, "http://", "http://x@evil.example:80/", 1)
		},
		"no URL":          func(in *providerpb.ExchangeRequest) { in.TokenEndpoint = "token" },
		"later told more": func(in *providerpb.ExchangeRequest) { in.TokenEndpoint = other.URL + "/later" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &server{provider: posting("client_secret", canary), exchanger: exchanger{binding: newBinding()}}
			s.exchanger.binding.learn(handshake.Destination{Origins: []string{mustOrigin(t, own.URL)}, Connection: handshake.Connection(nil, "")})
			if name == "later told more" {
				s.exchanger.binding.learn(handshake.Destination{Origins: []string{mustOrigin(t, other.URL)}, Connection: handshake.Connection(nil, "")})
			}
			in := asking(own.URL + "/token")
			mustAnswer(t, exchange(t, s, in))
			ask(in)
			mustFail(t, exchange(t, s, in), providerpb.Failure_KIND_CONFIG)
			if otherRequests.Load() != 0 || ownRequests.Load() == 0 {
				t.Errorf("%d requests to the other server", otherRequests.Load())
			}
		})
	}
}

func mustOrigin(t *testing.T, text string) string {
	t.Helper()
	origin, err := handshake.Origin(text)
	if err != nil {
		t.Fatal(err)
	}
	return origin
}

// A request may come before the pipe was read, and is not refused for it.
func TestBindingWaitsForThePipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, begun := newBinding(), time.Now()
		time.AfterFunc(time.Second, func() { b.learn(handshake.Destination{Origins: []string{"https://a:443"}, Connection: "x"}) })
		if err := b.check(t.Context(), "https://a/token", "x"); err != nil || time.Since(begun) != time.Second {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
		begun = time.Now()
		if err := b.check(t.Context(), "https://a/token", "y"); err == nil || time.Since(begun) != announceTime {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
	})
}
