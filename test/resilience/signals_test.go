//go:build linux

package resilience_test

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/internal/devserver"
)

// signalled is a host whose agent receives a stream. Another client than the one that events are about
// authorizes it, so that faults befall only that one.
func signalled(t *testing.T) *host {
	t.Helper()
	h := newHost(t, devserver.Options{TTL: time.Hour}, "receiver")
	h.write(t, "credagent.yaml", h.preamble()+"clients:\n"+h.clientLine("app", h.server.TokenURL(), "")+h.clientLine("receiver", h.server.TokenURL(), "")+
		"tokens:\n  orders: { client: app, scopes: [read] }\n  stream: { client: receiver, scopes: [ssf.manage] }\n"+
		"signals:\n  corp:\n    issuer: "+h.server.URL()+"\n    token: stream\n    subjects: [{ client: app, iss_sub: { iss: '"+h.server.URL()+"', sub: app } }]\n"+
		"sinks:\n  - { type: file, token: orders, path: "+h.path("sinks/orders.token")+" }\n")
	return h
}

// acked reports whether the transmitter's one stream has an event acknowledged; "" is any.
func (h *host) acked(jti string) bool {
	streams := h.server.Streams()
	return len(streams) == 1 && (jti == "" && len(streams[0].Acked) > 0 || slices.Contains(streams[0].Acked, jti))
}

// requestsOf counts the token requests of a client.
func (h *host) requestsOf(client string) (n int) {
	for _, r := range h.server.Requests() {
		if r.Client == client {
			n++
		}
	}
	return n
}

// pending is how many events are yet to be done, as the status says; -1 while there is none.
func (h *host) pending(t *testing.T) int {
	t.Helper()
	response, err := http.Get("http://" + h.listen + "/v1/status")
	if err != nil {
		return -1
	}
	defer response.Body.Close()
	var s status.Status
	if json.NewDecoder(response.Body).Decode(&s) != nil || len(s.Signals) != 1 {
		return -1
	}
	return s.Signals[0].Pending
}

func (h *host) orders(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(h.path("sinks/orders.token"))
	must(t, err)
	return string(content)
}

func (h *host) revoke(t *testing.T) (jti string) {
	t.Helper()
	jti, err := h.server.Signal(devserver.Signal{Event: "session-revoked", Client: "app"})
	must(t, err)
	return jti
}

// TestSignalReplacesTheToken: the file has another token a moment after the event, and the old one until then.
func TestSignalReplacesTheToken(t *testing.T) {
	t.Parallel()
	h := signalled(t)
	p := h.start(t)
	h.ready(t, p)
	until(t, "the stream is verified", func() bool { return h.acked("") })
	first := h.orders(t)
	jti := h.revoke(t)
	until(t, "the file has another token", func() bool { return h.orders(t) != first })
	until(t, "the event is acknowledged", func() bool { return h.acked(jti) })
	if n := h.requestsOf("app"); n != 2 || h.requestsOf("receiver") != 1 {
		t.Errorf("%d token requests for one event, and %d of the client that it is not about", n-1, h.requestsOf("receiver")-1)
	}
}

// TestKillLosesNoSignal: what was acknowledged is done by the next process, once.
func TestKillLosesNoSignal(t *testing.T) {
	t.Parallel()
	h := signalled(t)
	p := h.start(t)
	h.ready(t, p)
	until(t, "the stream is verified", func() bool { return h.acked("") })
	first := h.orders(t)
	must(t, h.server.Inject(devserver.Fault{Kind: devserver.Stall, Client: "app"}))
	jti := h.revoke(t)
	until(t, "the event is acknowledged", func() bool { return h.acked(jti) })
	p.Kill()
	h.server.Clear()
	if h.orders(t) != first {
		t.Fatal("the token was replaced before the kill: this shows nothing")
	}
	before := h.requestsOf("app")
	p = h.start(t)
	until(t, "the next process replaces the token", func() bool { return h.orders(t) != first })
	if n := h.requestsOf("app") - before; n != 1 {
		t.Errorf("the next process sent %d token requests for one event", n)
	}
	until(t, "the event is done", func() bool { return h.pending(t) == 0 })
	p.Kill()
	p = h.start(t)
	h.ready(t, p)
	until(t, "the event is known to be done", func() bool { return h.pending(t) == 0 })
	if n := h.requestsOf("app") - before; n != 1 || len(h.server.Streams()) != 1 {
		t.Errorf("%d token requests for one event, and %d streams", n, len(h.server.Streams()))
	}
}
