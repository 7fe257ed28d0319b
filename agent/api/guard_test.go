package api

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/credagent/credagent/agent/status"
)

// fixedListener is a listener that has an address and nothing else.
type fixedListener struct {
	net.Listener
	at net.Addr
}

func (l fixedListener) Addr() net.Addr { return l.at }

func TestListenAnswersOnlyItsOwnHosts(t *testing.T) {
	loopback, any4 := net.IPv4(127, 0, 0, 1), net.IPv4zero
	for name, tc := range map[string]struct {
		at     net.IP
		listen string
		host   string
		want   int
	}{
		"loopback":                 {loopback, "127.0.0.1:9465", "127.0.0.1:9465", 204},
		"its name":                 {loopback, "127.0.0.1:9465", "localhost:9465", 204},
		"IPv6":                     {net.IPv6loopback, "[::1]:9465", "[::1]:9465", 204},
		"the name listened at":     {loopback, "agent.internal:9465", "Agent.Internal:9465", 204},
		"a rebound name":           {loopback, "127.0.0.1:9465", "evil.example:9465", 403},
		"without a port":           {loopback, "127.0.0.1:9465", "evil.example", 403},
		"a name like loopback":     {loopback, "127.0.0.1:9465", "127.0.0.1.evil.example:9465", 403},
		"localhost of somebody":    {loopback, "127.0.0.1:9465", "localhost.evil.example", 403},
		"another address":          {loopback, "127.0.0.1:9465", "10.0.0.1:9465", 403},
		"none":                     {loopback, "127.0.0.1:9465", "", 403},
		"for everybody, any name":  {any4, ":9465", "agent.example:9465", 204},
		"in a pod, by its address": {any4, "0.0.0.0:9465", "10.1.2.3:9465", 204},
	} {
		t.Run(name, func(t *testing.T) {
			next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
			handler := ForHost(fixedListener{at: &net.TCPAddr{IP: tc.at, Port: 9465}}, tc.listen, next)
			r := httptest.NewRequest(http.MethodGet, "/v1/status", nil)
			r.Host = tc.host
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != tc.want || tc.want == 403 && !json.Valid(w.Body.Bytes()) {
				t.Errorf("status %d, body %s", w.Code, w.Body)
			}
		})
	}
}

func TestAnswersAreNoOtherPagesToRead(t *testing.T) {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	handler := Handler(&fixed{status: status.Status{Ready: true}}, metrics)
	for _, path := range []string{"/v1/status", "/metrics", "/", "/assets/status.js", "/v1/nothing", "/nothing"} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if h := w.Header(); h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cross-Origin-Resource-Policy") != "same-origin" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

func TestWhatNoRouteTakesIsAnsweredInJSON(t *testing.T) {
	handler := Handler(&fixed{}, http.NotFoundHandler())
	for name, tc := range map[string]struct {
		method, path string
		status       int
		allow        bool
	}{
		"no such path":            {http.MethodGet, "/v2/status", 404, false},
		"no token here":           {http.MethodGet, "/v1/tokens/graph", 404, false},
		"another method":          {http.MethodPost, "/v1/status", 405, true},
		"another, of a probe":     {http.MethodDelete, "/readyz", 405, true},
		"another, of the metrics": {http.MethodPut, "/metrics", 405, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(tc.method, tc.path, nil))
			var body struct{ Error, Message string }
			err := json.Unmarshal(w.Body.Bytes(), &body)
			if w.Code != tc.status || err != nil || body.Error == "" || body.Message == "" || (w.Header().Get("Allow") != "") != tc.allow {
				t.Errorf("status %d, %v, body %s, %v", w.Code, w.Header(), w.Body, err)
			}
		})
	}
}
