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

// Launcher is the first argument with which this program starts itself to become the command, with [Become].
const Launcher = "launch"

// addressed are the variables by which a service manager tells a process that other variables are for it
// (sd_listen_fds(3), sd_watchdog_enabled(3)). They hold its process id.
var addressed = [...]string{"LISTEN_PID", "WATCHDOG_PID"}

// pidfdVariable is another form of LISTEN_PID, which cannot be set for the command.
const pidfdVariable = "LISTEN_PIDFDID"

// onlyTry replaces the program's path when only testing whether one could be started.
const onlyTry = "-"

// command returns what to start. A process id is not known before the process runs, and Go's runtime has installed
// handlers for signals that were ignored. So if the environment has to contain the id, or the command has to ignore
// signals, this program is started first, sets them up and becomes the command.
func command(path string, o Options, given []string) (process.Command, error) {
	env, mine := environment(o.Environ, o.Without, given, os.Getpid())
	if !mine && len(o.ignored) == 0 {
		return process.Command{Path: path, Args: o.Command, Env: env}, nil
	}
	return launched(path, o, env)
}

// launched returns a command that is started through this program.
func launched(path string, o Options, env []string) (process.Command, error) {
	self, err := process.Self()
	if err != nil {
		return process.Command{}, &process.StartError{Program: o.Command[0], Err: err}
	}
	args := append([]string{"credagent", Launcher, signalList(o.ignored), path}, o.Command...)
	return process.Command{Path: self, Args: args, Env: env}, nil
}

// try reports why a command could not be started now. Its environment is tested with this program, because only the
// system knows what fits.
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

// environment returns the inherited environment, without some names and with the given variables. It also reports
// whether it contains something addressed to the process with the given id.
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

// Become turns this process into the program whose path is second in args, after the numbers of the signals that it
// ignores; its own arguments follow. Variables that were addressed to the parent process are then addressed to this
// one. It returns only on failure, or if it only had to test.
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

// inherit readdresses variables from one process to another.
func inherit(environ []string, from, to int) []string {
	env := slices.Clone(environ)
	for i, pair := range env {
		if name := nameOf(pair); slices.Contains(addressed[:], name) && pair == name+"="+strconv.Itoa(from) {
			env[i] = name + "=" + strconv.Itoa(to)
		}
	}
	return env
}
