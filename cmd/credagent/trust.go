package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"slices"
	"strconv"

	"github.com/credagent/credagent/internal/peer"
)

// serviceUser is whom the packages run the agent as.
const serviceUser = "credagent"

// untrustedError means that a port or a socket belongs to somebody who is not the agent.
type untrustedError struct {
	uid  int
	hint string
}

const (
	portHint   = "configure socket, or name the agent's with --socket PATH"
	socketHint = "have the agent's socket in a directory that is the agent's user's or root's, and that nobody else can write to or could have made"
)

// Error implements error.
func (e *untrustedError) Error() string {
	return fmt.Sprintf("user %d is listening there, who is neither root, the agent's user nor the one asking; %s", e.uid, e.hint)
}

// trusted are the users whose listener is believed to be the agent: root, who asks, the user that the
// packages make for it, and the owners of what only the agent makes.
func (at agentAt) trusted() []int {
	uids := []int{0, os.Geteuid()}
	if account, err := user.Lookup(serviceUser); err == nil {
		if uid, err := strconv.Atoi(account.Uid); err == nil {
			uids = append(uids, uid)
		}
	}
	if at.cfg != nil && at.cfg.State != nil {
		if uid, ok := ownerOf(at.cfg.State.Dir); ok {
			uids = append(uids, uid)
		}
	}
	return uids
}

// trustedAt are the users who are believed to be the agent at the socket: those of trusted, and whose its
// directory is, where only that user or root can have put something there.
func (at agentAt) trustedAt() []int {
	uids := at.trusted()
	if uid, ok := placedBy(at.socket); ok {
		uids = append(uids, uid)
	}
	return uids
}

// dialSocket connects to a socket if the kernel reports that who listens there is trusted: where its directory
// is open to others, any user could have taken the path while no agent runs.
func dialSocket(ctx context.Context, path string, trusted []int) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	who, err := peer.Of(conn.(*net.UnixConn))
	if err == nil && !slices.Contains(trusted, who.UID) {
		err = &untrustedError{who.UID, socketHint}
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// dialTrusted connects to an address of this host if the kernel reports that all who listen there are
// trusted: any user could have taken the port while no agent runs. Where the kernel cannot be asked,
// nobody is.
func dialTrusted(ctx context.Context, address string, trusted []int) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if err := checkListener(conn, trusted); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func checkListener(conn net.Conn, trusted []int) error {
	remote, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return err
	}
	listeners, err := peer.At(remote)
	if err != nil {
		return err
	}
	if len(listeners) == 0 {
		return errors.New("the kernel does not say who is listening there")
	}
	for _, l := range listeners {
		if !slices.Contains(trusted, l.UID) {
			return &untrustedError{l.UID, portHint}
		}
	}
	return nil
}
