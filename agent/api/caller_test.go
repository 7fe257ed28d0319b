package api

import (
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/credagent/credagent/internal/peer"
)

// arrivals is a listener at which a connection of each user in turn has arrived.
type arrivals struct {
	net.Listener
	users []int
	ends  []net.Conn // the callers' ends
}

func (a *arrivals) Accept() (net.Conn, error) {
	n := len(a.ends)
	if n == len(a.users) {
		return nil, net.ErrClosed
	}
	here, there := net.Pipe()
	a.ends = append(a.ends, there)
	return &peerConn{here, peer.Peer{UID: a.users[n]}}, nil
}

func TestBoundIsFairToUsers(t *testing.T) {
	tests := []struct {
		name  string
		users []int // of the connections, in the order in which they come; there is room for four
		want  []int // the connections that are left
	}{
		{"one user", []int{1, 1, 1, 1, 1}, []int{1, 2, 3, 4}},
		{"one who has one of four", []int{2, 1, 1, 1, 1}, []int{0, 2, 3, 4}},
		{"and another of another", []int{2, 1, 1, 1, 3}, []int{0, 2, 3, 4}},
		{"two with as many", []int{1, 2, 2, 1, 3}, []int{1, 2, 3, 4}},
		{"a flood", []int{2, 3, 1, 1, 1, 1, 1, 1, 1}, []int{0, 1, 7, 8}},
		{"two floods", []int{1, 1, 1, 1, 2, 2, 2, 2}, []int{2, 3, 6, 7}},
		{"as many users as there is room", []int{1, 2, 3, 4, 5}, []int{0, 1, 2, 3}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			from := &arrivals{users: test.users}
			listener := bound(from, limits{4, 4})
			var accepted []net.Conn
			for range test.users {
				conn, err := listener.Accept()
				if errors.Is(err, net.ErrClosed) {
					break // the last was not let in
				}
				if err != nil {
					t.Fatal(err)
				}
				accepted = append(accepted, conn)
			}
			var left []int
			for i, conn := range accepted {
				go func() { _, _ = from.ends[i].Read(make([]byte, 1)) }()
				if _, err := conn.Write([]byte("x")); err == nil {
					left = append(left, i)
				} else if !errors.Is(err, io.ErrClosedPipe) {
					t.Error(err)
				}
				_ = conn.Close()
				_ = conn.Close() // a second time counts for nothing
			}
			if !slices.Equal(left, test.want) {
				t.Errorf("left are %v, want %v", left, test.want)
			}
			if b := listener.(*bounded); b.held.Len() != 0 || len(b.users) != 0 {
				t.Errorf("after all have left, %d are held and the users are %v", b.held.Len(), b.users)
			}
		})
	}
}

func TestCallerOfARequest(t *testing.T) {
	known := &peerConn{peer: peer.Peer{UID: 7, GIDs: []int{8}}}
	for name, test := range map[string]struct {
		conn net.Conn
		want bool
	}{
		"none":              {nil, false},
		"as it is":          {known, true},
		"with a wrapper":    {&boundedConn{Conn: known}, true},
		"with two":          {&boundedConn{Conn: &boundedConn{Conn: known}}, true},
		"not over a socket": {&boundedConn{Conn: &net.TCPConn{}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			if test.conn != nil {
				r = r.WithContext(withConn(r.Context(), test.conn))
			}
			if got, ok := callerOf(r); ok != test.want || ok && got.UID != 7 {
				t.Errorf("the caller is %+v, %v", got, ok)
			}
		})
	}
}

// TestManyUsersKeepTheirConnections: three hundred users with one each, and one of them with very many.
func TestManyUsersKeepTheirConnections(t *testing.T) {
	const users = 300
	var come []int
	for user := range users {
		come = append(come, user)
	}
	for range 2 * mostConnections {
		come = append(come, 7)
	}
	b := bound(&arrivals{users: come}, limits{mostConnections, mostOfOne}).(*bounded)
	var accepted []net.Conn
	for range come {
		conn, err := b.Accept()
		if err != nil {
			t.Fatal(err)
		}
		accepted = append(accepted, conn)
	}
	if b.held.Len() != users-1+mostOfOne || len(b.users) != users || b.users[7] != mostOfOne {
		t.Errorf("%d connections of %d users, %d of the one", b.held.Len(), len(b.users), b.users[7])
	}
	for _, conn := range accepted {
		_ = conn.Close()
	}
}
