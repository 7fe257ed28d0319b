// Package peer asks the kernel who is at the other end of a unix socket. What it says is what held
// when the other end connected, and cannot be made up by it. One caveat: a user or group from
// outside the agent's user namespace shows as the kernel's overflow number, usually 65534.
package peer

// Peer is who connected.
type Peer struct {
	UID  int
	GIDs []int // the primary group first, then the supplementary ones
}
