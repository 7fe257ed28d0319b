package devserver

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync"
)

func (s *Server) serve(listener net.Listener) error {
	s.closing.Lock()
	defer s.closing.Unlock()
	select {
	case <-s.closed:
		_ = listener.Close()
		return http.ErrServerClosed
	default:
	}
	if s.identity.config != nil {
		listener = tls.NewListener(listener, s.identity.config)
	}
	s.serving.Go(func() { _ = s.http.Serve(listener) })
	return nil
}

// DialContext connects to the server in memory, whatever the address. Use it in an [http.Transport] to reach the
// server without a network, for example inside a testing/synctest bubble.
func (s *Server) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	// A server that is closed is noticed below.
	s.startPipe.Do(func() { _ = s.serve(s.pipe) })
	near, far := net.Pipe()
	select {
	case s.pipe.conns <- far:
		return near, nil
	case <-s.closed:
		return nil, fmt.Errorf("connecting to %q: %w", address, http.ErrServerClosed)
	case <-ctx.Done():
		return nil, fmt.Errorf("connecting to %q: %w", address, ctx.Err())
	}
}

// reachable returns the host:port under which this machine reaches a listener's address.
func reachable(address net.Addr) string {
	tcp, ok := address.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return address.String()
	}
	return fmt.Sprintf("127.0.0.1:%d", tcp.Port)
}

// pipeListener accepts in-memory connections.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Accept implements [net.Listener].
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements [net.Listener].
func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
