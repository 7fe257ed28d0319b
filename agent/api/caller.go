package api

import (
	"context"
	"log/slog"
	"net"
	"net/http"

	"github.com/credagent/credagent/internal/peer"
)

// connKey is the context key of a request's connection.
type connKey struct{}

func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// callerOf returns the caller of a request, if its connection knows it.
func callerOf(r *http.Request) (peer.Peer, bool) {
	for conn := connOf(r); conn != nil; conn = inner(conn) {
		if known, ok := conn.(*peerConn); ok {
			return known.peer, true
		}
	}
	return peer.Peer{}, false
}

// connOf returns the connection that a request came by; nil where it is not known.
func connOf(r *http.Request) net.Conn {
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	return conn
}

// inner returns the connection that another one is a layer on; nil for none.
func inner(conn net.Conn) net.Conn {
	if outer, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return outer.NetConn()
	}
	return nil
}

// peerConn is a connection with the identity of its peer.
type peerConn struct {
	net.Conn
	peer peer.Peer
}

// peerListener asks the kernel for the peer of every connection.
type peerListener struct {
	*net.UnixListener
	log *slog.Logger
}

// Accept implements [net.Listener].
func (l *peerListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		who, err := peer.Of(conn)
		if err == nil {
			return &peerConn{conn, who}, nil
		}
		l.log.Debug("caller is not known, its connection is closed", keyError, err)
		_ = conn.Close()
	}
}
