package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/credagent/credagent/agent/config"
)

// listeners checks whether the addresses are free, and who can reach them.
func (e *exam) listeners(ctx context.Context) []Finding {
	var all []Finding
	if at := e.Config.Listen; at != "" {
		all = append(all, about("listen", append(e.free(ctx, at, waited), reachable(at)...)...)...)
	}
	if i := e.Config.Identity; i != nil {
		all = append(all, about("identity_endpoint.listen", e.free(ctx, i.Listen, nil)...)...)
	}
	if s := e.Config.Sidecar; s != nil {
		all = append(all, about("auth_sidecar.listen", e.free(ctx, s.Listen, nil)...)...)
	}
	return all
}

// waited describes an address that is in use, if the agent starts anyway and tries again.
func waited(f *Finding) {
	f.Level, f.Why = Warning, "the agent keeps tokens fresh, but serves no probes, metrics and status before the address is free"
}

// free tries to listen, unless the running agent does. taken describes the consequences of an address in use; nil
// means that the agent does not start.
func (e *exam) free(ctx context.Context, at string, taken func(*Finding)) []Finding {
	if e.running != nil {
		return nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at)
	if err == nil {
		_ = listener.Close()
		return nil
	}
	f := Finding{Level: Problem, What: fmt.Sprintf("cannot listen on %s: %v", at, err), Why: "the agent does not start", Fix: "choose another address"}
	_, port, _ := net.SplitHostPort(at)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		f.What = fmt.Sprintf("something else listens at %s, and it is no agent of this configuration", at)
		f.Fix = fmt.Sprintf("find it with ss -ltnp 'sport = :%s' and end it, or choose another address", port)
		if taken != nil {
			taken(&f)
		}
	case errors.Is(err, fs.ErrPermission):
		f.What = fmt.Sprintf("%s may not listen at %s", userName(os.Geteuid()), at)
		f.Fix = "choose a port above 1023"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		f.What = fmt.Sprintf("this host has no address %s", at)
		f.Fix = "choose one that ip address shows"
	}
	return []Finding{f}
}

// reachable reports whether other hosts can see probes, metrics and status.
func reachable(at string) []Finding {
	host, _, err := net.SplitHostPort(at)
	if err != nil || strings.EqualFold(host, "localhost") {
		return nil
	}
	if address, err := netip.ParseAddr(host); err == nil && address.Unmap().IsLoopback() {
		return nil
	}
	return []Finding{{
		Level: Warning, What: at + " can be reached from other hosts",
		Why: "status and metrics show names, paths and times to everybody there", Fix: "listen at 127.0.0.1, or put something in front that asks who it is",
	}}
}

// callers checks whether users who may get tokens from the socket can reach it.
func (e *exam) callers(context.Context) []Finding {
	s := e.Config.Socket
	if s == nil {
		return nil
	}
	will := facts{owner: owner{e.uid, os.Getegid()}, mode: s.Mode}
	if s.Group != "" {
		gid, err := groupID(s.Group)
		if err != nil {
			return about("socket.group", Finding{Level: Problem, What: err.Error(), Why: "the agent does not start", Fix: "check the name, or give a number"})
		}
		will.gid = gid
	}
	var all []Finding
	for _, t := range e.Config.Tokens {
		for _, principal := range t.Allow {
			all = append(all, about("token "+quote(t.Name), caller(principal, *s, will)...)...)
		}
	}
	return all
}

func caller(p config.Principal, s config.Socket, will facts) []Finding {
	who, err := personOf(p)
	if errors.Is(err, errNobody) {
		return []Finding{{Level: Warning, What: err.Error(), Why: "this entry of allow admits nobody", Fix: "check the name"}}
	}
	found := who.reach(filepath.Dir(s.Path))
	if !who.may(mayWrite, will) {
		found = append(found, Finding{
			Level: Problem, What: fmt.Sprintf("%s may have it, but may not connect to the socket (mode %04o, group %s)", who.name, s.Mode, groupName(will.gid)),
			Why: "the kernel refuses the connection before the agent is asked", Fix: "put whoever is allowed into one group, and give the socket that group",
		})
	}
	return found
}
