package api

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"
)

const patience = 30 * time.Second

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// pair is the two ends of an accepted connection.
type pair struct{ caller, accepted net.Conn }

func accept(t *testing.T, listener net.Listener) pair {
	t.Helper()
	caller := dial(t, listener.Addr().String())
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = accepted.Close() })
	return pair{caller, accepted}
}

// talk sends a byte from the caller or from the other end.
func (p pair) talk(t *testing.T, caller bool) {
	t.Helper()
	from, to := p.accepted, p.caller
	if caller {
		from, to = p.caller, p.accepted
	}
	var got [1]byte
	_, err := from.Write([]byte("x"))
	if err == nil {
		_, err = io.ReadFull(to, got[:])
	}
	if err != nil {
		t.Fatal(err)
	}
}

// open reports which connections are still open.
func open(t *testing.T, pairs []pair) []int {
	t.Helper()
	var left []int
	for i, p := range pairs {
		if _, err := p.accepted.Write([]byte("x")); err == nil {
			left = append(left, i)
		} else if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
	return left
}

func TestBoundTakesTheMostSilentsPlace(t *testing.T) {
	tests := map[string]struct {
		before func(t *testing.T, p []pair)
		want   []int
	}{
		"the oldest":                 {func(*testing.T, []pair) {}, []int{1, 2, 3}},
		"not one that was heard":     {func(t *testing.T, p []pair) { p[0].talk(t, true) }, []int{0, 2, 3}},
		"not one that was spoken to": {func(t *testing.T, p []pair) { p[0].talk(t, false); p[2].talk(t, true) }, []int{0, 2, 3}},
		"none where one has left":    {func(t *testing.T, p []pair) { _ = p[1].accepted.Close() }, []int{0, 2, 3}},
		"a second close changes nothing": {func(t *testing.T, p []pair) {
			_ = p[1].accepted.Close()
			_ = p[1].accepted.Close()
		}, []int{0, 2, 3}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			listener := bound(listen(t), limits{3, 3})
			pairs := []pair{accept(t, listener), accept(t, listener), accept(t, listener)}
			tc.before(t, pairs)
			pairs = append(pairs, accept(t, listener))
			if got := open(t, pairs); !slices.Equal(got, tc.want) {
				t.Errorf("open are %v, want %v", got, tc.want)
			}
		})
	}
}

func TestBoundConnShowsTheConnection(t *testing.T) {
	listener := bound(listen(t), limits{1, 1})
	p := accept(t, listener)
	inner, ok := p.accepted.(interface{ NetConn() net.Conn })
	if !ok {
		t.Fatal("the connection itself cannot be had")
	}
	if _, ok := inner.NetConn().(*net.TCPConn); !ok {
		t.Errorf("it is a %T", inner.NetConn())
	}
}

// served serves a handler until the test ends.
func served(t *testing.T, handler http.Handler) (address string) {
	t.Helper()
	listener := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, listener, handler, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// TestSilentConnectionsKeepNobodyOut: more connections than there is room for, each with half a
// request, and a caller after them.
func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	address := served(t, newIdentityHandler(&resources{}))
	for range 3 * mostOfOne {
		conn := dial(t, address)
		if _, err := conn.Write([]byte("GET /msi/token HTTP/1.1\r\nHost: loc")); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	r := sound()
	r.RequestURI, r.URL.Host = "", address
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("status %s", response.Status)
	}
	if took := time.Since(begun); took > 2*time.Second { // far less than any time limit of a connection
		t.Errorf("it took %v", took)
	}
}

// TestOversizedHeaders: what is too large for the server itself is answered too, with a body.
func TestOversizedHeaders(t *testing.T) {
	conn := dial(t, served(t, newIdentityHandler(&resources{})))
	go func() { // the server stops reading at some point
		_, _ = io.WriteString(conn, "GET /msi/token?resource=")
		junk := make([]byte, 64<<10)
		for i := range junk {
			junk[i] = 'x'
		}
		_, _ = conn.Write(junk)
		_, _ = io.WriteString(conn, " HTTP/1.1\r\nHost: localhost\r\n\r\n")
	}()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge || len(body) == 0 {
		t.Errorf("status %s, body %q, %v", response.Status, body, err)
	}
}
