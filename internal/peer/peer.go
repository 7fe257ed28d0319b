// Package peer asks the kernel who is at the other end of a connection on this host. For a unix socket the answer
// is the user and the groups when the other end connected; for a TCP connection it is only the user that owns the
// other end's socket. Neither can be forged by it. One caveat: a user or group from outside the agent's user
// namespace appears as the kernel's overflow id, usually 65534.
package peer

// Peer is the user that connected.
type Peer struct {
	UID  int
	GIDs []int // the primary group first, then the supplementary ones
}
