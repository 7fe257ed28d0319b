package api

import (
	"context"
	"log/slog"
	"net"
	"net/http"

	"github.com/credagent/credagent/internal/peer"
)

// connKey is where a request's connection is in its context.
type connKey struct{}

func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// callerOf returns who sent a request, as far as its connection knows.
func callerOf(r *http.Request) (peer.Peer, bool) {
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	for conn != nil {
		if known, ok := conn.(*peerConn); ok {
			return known.peer, true
		}
		outer, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = outer.NetConn()
	}
	return peer.Peer{}, false
}

// peerConn is a connection that knows who is at its other end.
type peerConn struct {
	net.Conn
	peer peer.Peer
}

// peerListener asks the kernel who is at the other end of every connection.
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
