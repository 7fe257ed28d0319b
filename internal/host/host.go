// Package host looks up users and groups, and checks who could replace what a path leads to. It opens directories and
// files only if they are safe, and changes nothing, except that it creates the last directory of a path if asked to.
//
// Users and groups are looked up like id(1) does: first in the files of /etc, and if the name is not there, with
// getent, which asks LDAP, SSSD, systemd and whatever else the system is configured for.
package host

import (
	"errors"
	"os/user"
	"strconv"
	"strings"
)

// User returns the uid of a user, given by name or by number.
func User(name string) (int, error) {
	if id, err := parseID(name); err == nil {
		return id, nil
	}
	u, err := user.Lookup(name)
	if err == nil {
		return parseID(u.Uid)
	}
	if unknown := user.UnknownUserError(""); !errors.As(err, &unknown) {
		return 0, err
	}
	fields, err := entry("passwd", name)
	if err != nil {
		return 0, notFound("user", "/etc/passwd", err)
	}
	return parseID(fields[2])
}

// Group returns the gid of a group, given by name or by number.
func Group(name string) (int, error) {
	if id, err := parseID(name); err == nil {
		return id, nil
	}
	g, err := user.LookupGroup(name)
	if err == nil {
		return parseID(g.Gid)
	}
	if unknown := user.UnknownGroupError(""); !errors.As(err, &unknown) {
		return 0, err
	}
	fields, err := entry("group", name)
	if err != nil {
		return 0, notFound("group", "/etc/group", err)
	}
	return parseID(fields[2])
}

// Groups returns the gids of all groups that a user is in.
func Groups(name string) ([]int, error) {
	var ids []string
	u, err := user.Lookup(name)
	if err == nil {
		ids, err = u.GroupIds()
		ids = append(ids, u.Gid)
	}
	if err != nil {
		fields, err := entry("passwd", name)
		if err != nil {
			return nil, notFound("user", "/etc/passwd", err)
		}
		ids = []string{fields[3]}
	}
	if line, err := getent("initgroups", name); err == nil { // NAME GID GID …, if there is such a database
		ids = append(ids, strings.Fields(line)...)
	}
	var numbers []int
	for _, id := range ids {
		if gid, err := parseID(id); err == nil {
			numbers = append(numbers, gid)
		}
	}
	return numbers, nil
}

// UserName returns the name of a uid; if it has none, the number after a #.
func UserName(uid int) string { return nameOf("passwd", uid) }

// GroupName is [UserName] for a group.
func GroupName(gid int) string { return nameOf("group", gid) }

func nameOf(database string, id int) string {
	number := strconv.Itoa(id)
	if u, err := user.LookupId(number); err == nil && database == "passwd" {
		return u.Username
	}
	if g, err := user.LookupGroupId(number); err == nil && database == "group" {
		return g.Name
	}
	if fields, err := entry(database, number); err == nil {
		return fields[0]
	}
	return "#" + number
}

// parseID reads a uid or gid; 1<<32 - 1 means "none" to the system and is not a valid id.
func parseID(s string) (int, error) {
	id, err := strconv.ParseUint(s, 10, 32)
	if err != nil || id == 1<<32-1 {
		return 0, errors.New("not the number of a user or group")
	}
	return int(id), nil
}
