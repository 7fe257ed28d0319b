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
