package api

import (
	"container/list"
	"net"
	"sync"
)

const (
	// mostConnections is the maximum number of connections of one listener. It is far more than a host's workloads
	// keep open, and a small part of what a process may open.
	mostConnections = 1024
	// mostOfOne is the maximum for one user, or for all if users are not distinguished.
	mostOfOne = 256
)

// limits are the maximum numbers of connections, in all and for one user.
type limits struct{ all, one int }

// bound returns a listener with limited connections. If a user at the limit opens a new one, the user's connection
// that has been silent longest is closed. If the listener is full, this happens to the user with the most
// connections; if nobody has more than one, the new one is closed. So abandoned connections cost a fixed number of
// descriptors, and never those of other users.
func bound(listener net.Listener, most limits) net.Listener {
	return &bounded{Listener: listener, most: most, users: map[int]int{}}
}

type bounded struct {
	net.Listener
	most limits

	mu    sync.Mutex
	held  list.List   // guarded by mu: of *boundedConn, the one silent longest in front
	users map[int]int // guarded by mu: how many each user holds
}

// Accept implements [net.Listener].
func (b *bounded) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &boundedConn{Conn: conn, by: b}
		if known, ok := conn.(*peerConn); ok {
			c.user = known.peer.UID
		}
		silent := b.admit(c)
		if silent != nil {
			_ = silent.Conn.Close()
		}
		if silent != c {
			return c, nil
		}
	}
}

// admit makes room for a connection and returns the one to close for it, if any, which may be the new one itself.
func (b *bounded) admit(c *boundedConn) (silent *boundedConn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.users[c.user] >= b.most.one:
		silent = b.silentest(func(held *boundedConn) bool { return held.user == c.user })
	case b.held.Len() >= b.most.all:
		// A user who would hold as many as another makes room for its own.
		most := b.users[c.user] + 1
		for _, n := range b.users {
			most = max(most, n)
		}
		if most == 1 {
			c.gone = true
			return c
		}
		silent = b.silentest(func(held *boundedConn) bool {
			n := b.users[held.user]
			return n == most || held.user == c.user && n+1 == most
		})
	}
	if silent != nil {
		b.remove(silent)
	}
	b.users[c.user]++
	c.place = b.held.PushBack(c)
	return silent
}

// silentest returns the matching connection that has been silent longest.
func (b *bounded) silentest(meant func(*boundedConn) bool) *boundedConn {
	for place := b.held.Front(); place != nil; place = place.Next() {
		if c := place.Value.(*boundedConn); meant(c) {
			return c
		}
	}
	return nil
}

// remove removes a connection, if it is still held.
func (b *bounded) remove(c *boundedConn) {
	if c.gone {
		return
	}
	c.gone = true
	b.held.Remove(c.place)
	if b.users[c.user]--; b.users[c.user] == 0 {
		delete(b.users, c.user)
	}
}

// heard notes that a connection was not silent. List methods ignore a removed element.
func (b *bounded) heard(c *boundedConn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held.MoveToBack(c.place)
}

func (b *bounded) leave(c *boundedConn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remove(c)
}

// boundedConn is a connection that counts towards its listener's limits.
type boundedConn struct {
	net.Conn
	by    *bounded
	place *list.Element
	user  int  // the peer; 0 if unknown
	gone  bool // guarded by by.mu: it is not held any more
}

// NetConn returns the underlying connection, to ask the kernel about it.
func (c *boundedConn) NetConn() net.Conn { return c.Conn }

// Read implements [net.Conn].
func (c *boundedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.by.heard(c)
	}
	return n, err
}

// Write implements [net.Conn].
func (c *boundedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if n > 0 {
		c.by.heard(c)
	}
	return n, err
}

// Close implements [net.Conn].
func (c *boundedConn) Close() error {
	c.by.leave(c)
	return c.Conn.Close()
}
