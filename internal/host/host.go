// Package host asks the machine who its users and groups are, and who may change a directory. It
// changes nothing. One caveat: a static binary knows the users and groups of /etc/passwd and
// /etc/group only; others are given by number.
package host

import (
	"errors"
	"os/user"
	"strconv"
)

// User returns the number of a user, given by name or by number.
func User(name string) (int, error) {
	if id, err := parseID(name); err == nil {
		return id, nil
	}
	u, err := user.Lookup(name)
	if unknown := user.UnknownUserError(""); errors.As(err, &unknown) {
		return 0, errors.New("no such user; create it, or give a number")
	}
	if err != nil {
		return 0, err
	}
	return parseID(u.Uid)
}

// Group returns the number of a group, given by name or by number.
func Group(name string) (int, error) {
	if id, err := parseID(name); err == nil {
		return id, nil
	}
	g, err := user.LookupGroup(name)
	if unknown := user.UnknownGroupError(""); errors.As(err, &unknown) {
		return 0, errors.New("no such group; create it, or give a number")
	}
	if err != nil {
		return 0, err
	}
	return parseID(g.Gid)
}

// parseID reads a uid or gid; 1<<32 - 1 is the system's "none" and no one's number.
func parseID(s string) (int, error) {
	id, err := strconv.ParseUint(s, 10, 32)
	if err != nil || id == 1<<32-1 {
		return 0, errors.New("not the number of a user or group")
	}
	return int(id), nil
}
