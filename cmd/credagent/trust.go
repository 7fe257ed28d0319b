package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/peer"
)

// serviceUser is the user that the packages run the agent as.
const serviceUser = "credagent"

// untrustedError means that the listener on a port or socket may not be the agent.
type untrustedError struct {
	uid  int
	hint string
}

const (
	portHint   = "ask as the agent's user or as root, configure a socket, or name the agent's with --socket PATH"
	socketHint = "put the agent's socket into a directory that belongs to the agent's user or root, and that nobody else can write to or could have created"
)

// Error implements error.
func (e *untrustedError) Error() string {
	name := strconv.Itoa(e.uid)
	if account, err := user.LookupId(name); err == nil {
		name = account.Username
	}
	text := fmt.Sprintf("user %s is listening there, who is not known to be the agent's user", name)
	if os.Geteuid() == 0 {
		text += fmt.Sprintf("\n    hint: if the agent runs as %s, ask as that user: runuser -u %s -- credagent status", name, name)
	}
	return text + "\n    hint: " + e.hint
}

// trusted returns the users whose listener is assumed to be the agent: root, the caller, the packages' user, and the
// owners of what only the agent creates.
func (at agentAt) trusted() []int {
	uids := []int{0, os.Geteuid()}
	if account, err := user.Lookup(serviceUser); err == nil {
		if uid, err := strconv.Atoi(account.Uid); err == nil {
			uids = append(uids, uid)
		}
	}
	if at.cfg != nil {
		uids = append(uids, madeFor(at.cfg)...)
	}
	return uids
}

// madeFor returns the users whom the configuration's directories belong to: its file's directory, the state, and the
// sinks' directories if they all belong to one user. An agent that writes for several users, or changes owners, is
// root.
func madeFor(cfg *config.Config) []int {
	var uids []int
	if cfg.State != nil {
		if uid, ok := ownerOf(cfg.State.Dir); ok {
			uids = append(uids, uid)
		}
	}
	if source, err := filepath.Abs(cfg.Source); err == nil && cfg.Source != fromEnvironment {
		if uid, ok := ownerOf(filepath.Dir(source)); ok {
			uids = append(uids, uid)
		}
	}
	var owners []int
	for _, s := range cfg.Sinks {
		if !s.IsFile() {
			continue
		}
		uid, ok := ownerOf(filepath.Dir(s.Path))
		if !ok || s.Owner != "" {
			return uids
		}
		if !slices.Contains(owners, uid) {
			owners = append(owners, uid)
		}
	}
	if len(owners) == 1 {
		uids = append(uids, owners[0])
	}
	return uids
}

// trustedAt returns the users who are assumed to be the agent at the socket: those of trusted, and the owner of its
// directory, if only that user or root can have created its entries.
func (at agentAt) trustedAt() []int {
	uids := at.trusted()
	if uid, ok := placedBy(at.socket); ok {
		uids = append(uids, uid)
	}
	return uids
}

// dialSocket connects to a socket if the kernel reports a trusted listener: if its directory is open to others, any
// user could have taken the path while no agent was running.
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

// dialTrusted connects to an address of this host if the kernel reports only trusted listeners: any user could have
// taken the port while no agent was running. If the kernel cannot report, none is trusted.
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
