package api

import (
	"container/list"
	"net"
	"sync"
)

// mostConnections is how many connections one listener holds. It is far more than a host's
// workloads keep open, and little of what a process may open.
const mostConnections = 256

// bound returns a listener that holds a number of connections at most. When it is full, a new one
// takes the place of the one that has been silent for longest; where users are told apart, of those
// of the user who holds most. So callers who open connections and leave them cost a fixed number of
// descriptors, and keep nobody out.
func bound(listener net.Listener, most int) net.Listener {
	return &bounded{Listener: listener, most: most, users: map[int]int{}}
}

type bounded struct {
	net.Listener
	most int

	mu    sync.Mutex
	held  list.List   // guarded by mu: of *boundedConn, the one silent for longest in front
	users map[int]int // guarded by mu: how many each user holds
}

// Accept implements [net.Listener].
func (b *bounded) Accept() (net.Conn, error) {
	conn, err := b.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &boundedConn{Conn: conn, by: b}
	if known, ok := conn.(*peerConn); ok {
		c.user = known.peer.UID
	}
	if silent := b.admit(c); silent != nil {
		_ = silent.Conn.Close()
	}
	return c, nil
}

// admit makes room for a connection and returns the one that has to go for it, if any.
func (b *bounded) admit(c *boundedConn) (silent *boundedConn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users[c.user]++ // a user who holds as many as another makes room for its own
	if b.held.Len() >= b.most {
		silent = b.victim()
		b.remove(silent)
	}
	c.place = b.held.PushBack(c)
	return silent
}

// victim returns whose connection has been silent for longest, of the user who holds most.
func (b *bounded) victim() *boundedConn {
	most := 0
	for _, n := range b.users {
		most = max(most, n)
	}
	place := b.held.Front()
	for b.users[place.Value.(*boundedConn).user] < most {
		place = place.Next()
	}
	return place.Value.(*boundedConn)
}

// remove takes a connection out, if it is still among those held.
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

// heard notes that a connection was not silent. List methods ignore a place that was removed.
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

// boundedConn is a connection with a place among those of its listener.
type boundedConn struct {
	net.Conn
	by    *bounded
	place *list.Element
	user  int  // who is at its other end; 0 where nobody knows
	gone  bool // guarded by by.mu: it is not held any more
}

// NetConn returns the connection itself, for those who ask the kernel about it.
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
