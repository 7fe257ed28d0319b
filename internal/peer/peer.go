// Package peer asks the kernel who is at the other end of a unix socket. The answer describes the other end when it
// connected, and cannot be forged by it. One caveat: a user or group from outside the agent's user namespace appears
// as the kernel's overflow id, usually 65534.
package peer

// Peer is the user that connected.
type Peer struct {
	UID  int
	GIDs []int // the primary group first, then the supplementary ones
}
