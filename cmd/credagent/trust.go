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

// untrustedError means that a port belongs to somebody who is not the agent.
type untrustedError struct{ uid int }

// Error implements error.
func (e *untrustedError) Error() string {
	return fmt.Sprintf("user %d is listening there, who is neither root, the agent's user nor the one asking; "+
		"configure socket, or name the agent's with --socket PATH", e.uid)
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
			return &untrustedError{l.UID}
		}
	}
	return nil
}
