package supervise

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/credagent/credagent/internal/process"
)

// Launcher is the first argument with which this program starts itself to become the command, which
// then is [Become]'s to do.
const Launcher = "launch"

// addressed are the variables by which a service manager tells a process that others are meant for
// it (sd_listen_fds(3), sd_watchdog_enabled(3)). They hold its number.
var addressed = [...]string{"LISTEN_PID", "WATCHDOG_PID"}

// pidfdVariable says the same as LISTEN_PID in another way, and cannot be said of the command.
const pidfdVariable = "LISTEN_PIDFDID"

// command is what to start. The number of a process is not known before it runs, so where the
// environment has to hold it, this program is started first, writes it there and becomes the command.
func command(path string, o Options, given []string) (process.Command, error) {
	env, mine := environment(o.Environ, o.Without, given, os.Getpid())
	c := process.Command{Path: path, Args: o.Command, Env: env}
	if !mine {
		return c, nil
	}
	self, err := process.Self()
	if err != nil {
		return c, &process.StartError{Program: o.Command[0], Err: err}
	}
	c.Path, c.Args = self, append([]string{"credagent", Launcher, path}, o.Command...)
	return c, nil
}

// environment is the inherited one, without some names and with the variables given in their place.
// It also reports whether it tells the process of the given number that something is meant for it.
func environment(inherited, without, given []string, self int) (env []string, mine bool) {
	without = slices.Clone(without)
	for _, pair := range given {
		without = append(without, nameOf(pair))
	}
	mine = slices.ContainsFunc(addressed[:], func(name string) bool {
		return slices.Contains(inherited, name+"="+strconv.Itoa(self))
	})
	if mine {
		without = append(without, pidfdVariable)
	}
	for _, pair := range inherited {
		if !slices.Contains(without, nameOf(pair)) {
			env = append(env, pair)
		}
	}
	return append(env, given...), mine
}

func nameOf(pair string) string {
	name, _, _ := strings.Cut(pair, "=")
	return name
}

// Become makes this process the program at the path that stands first in args; its own arguments
// follow. What was meant for the process that started this one is meant for it from then on. It
// returns only when that does not work.
func Become(args, environ []string) error {
	err := syscall.Exec(args[0], args[1:], inherit(environ, os.Getppid(), os.Getpid()))
	return &process.StartError{Program: args[1], Err: err}
}

// inherit makes what is meant for one process be meant for another.
func inherit(environ []string, from, to int) []string {
	env := slices.Clone(environ)
	for i, pair := range env {
		if name := nameOf(pair); slices.Contains(addressed[:], name) && pair == name+"="+strconv.Itoa(from) {
			env[i] = name + "=" + strconv.Itoa(to)
		}
	}
	return env
}
