package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
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

// pidfdVariable repeats LISTEN_PID in another form, which cannot be set for the command.
const pidfdVariable = "LISTEN_PIDFDID"

// onlyTry stands for the program's path where it is only tried out whether one could be started.
const onlyTry = "-"

// command is what to start. The number of a process is not known before it runs, and Go's runtime has
// put handlers in the place of what was ignored, so where the environment has to hold the first or the
// command to ignore the second, this program is started first, sets it right and becomes the command.
func command(path string, o Options, given []string) (process.Command, error) {
	env, mine := environment(o.Environ, o.Without, given, os.Getpid())
	if !mine && len(o.ignored) == 0 {
		return process.Command{Path: path, Args: o.Command, Env: env}, nil
	}
	return launched(path, o, env)
}

// launched is a command by way of this program.
func launched(path string, o Options, env []string) (process.Command, error) {
	self, err := process.Self()
	if err != nil {
		return process.Command{}, &process.StartError{Program: o.Command[0], Err: err}
	}
	args := append([]string{"credagent", Launcher, signalList(o.ignored), path}, o.Command...)
	return process.Command{Path: self, Args: args, Env: env}, nil
}

// try reports why a command could not be started now. Its environment is tried on this program, as
// only the system knows what fits.
func try(o Options, given []string) error {
	if _, err := process.Find(o.Command[0]); err != nil {
		return err
	}
	env, _ := environment(o.Environ, o.Without, given, os.Getpid())
	c, err := launched(onlyTry, o, env)
	if err != nil {
		return err
	}
	err = process.Run(context.Background(), c, &bytes.Buffer{})
	if start := (*process.StartError)(nil); errors.As(err, &start) {
		err = start.Err
	}
	if err != nil {
		return &process.StartError{Program: o.Command[0], Err: err}
	}
	return nil
}

func signalList(signals []syscall.Signal) string {
	numbers := make([]string, len(signals))
	for i, s := range signals {
		numbers[i] = strconv.Itoa(int(s))
	}
	return strings.Join(numbers, ",")
}

// environment is the inherited one, without some names and with the variables given in their place.
// It also reports whether it passes something to the process of the given number.
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

// Become makes this process the program whose path stands second in args, after the numbers of the
// signals that it ignores; its own arguments follow. What was meant for the process that started this
// one is meant for it from then on. It returns only when that does not work, or was only to be tried.
func Become(args, environ []string) error {
	if len(args) < 3 {
		return fmt.Errorf("starting a command: it is not given")
	}
	path, command := args[1], args[2:]
	if path == onlyTry {
		return nil
	}
	for _, text := range strings.FieldsFunc(args[0], func(r rune) bool { return r == ',' }) {
		if n, err := strconv.Atoi(text); err == nil {
			signal.Ignore(syscall.Signal(n))
		}
	}
	err := syscall.Exec(path, command, inherit(environ, os.Getppid(), os.Getpid()))
	return &process.StartError{Program: command[0], Err: err}
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
