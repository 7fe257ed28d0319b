// Package process owns how this program starts others, what they inherit, and how they end.
//
// A child inherits only the descriptors that it is given, unless it is an heir. If this process has to reap orphans,
// because it is the first process of a container, it never reaps its own children that way. One caveat: the kernel
// has one table of descriptors and one of children for the whole process, so this package's state is global too, and
// every child has to be started and waited for here.
package process

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// children are the processes that were started here and have not been waited for. Its lock is held while one starts,
// because descriptor flags that are changed meanwhile apply to the whole process.
var children = struct {
	sync.Mutex
	own    map[int]bool  // guarded by the mutex
	reaped chan struct{} // receives a value after a child was waited for
}{own: map[int]bool{}, reaped: make(chan struct{}, 1)}

// Start starts a process that inherits only what cmd gives it: no descriptor, and no ambient capability, since those
// are meant only for this program. Use [Wait] to wait for it.
func Start(cmd *exec.Cmd) error {
	return start(cmd, func() error {
		return withoutAmbient(func() error { return withoutInherited(cmd.Start) })
	})
}

func start(cmd *exec.Cmd, begin func() error) error {
	children.Lock()
	defer children.Unlock()
	if err := begin(); err != nil {
		return err
	}
	children.own[cmd.Process.Pid] = true
	return nil
}

// Wait waits for a process that was started here, as [exec.Cmd.Wait] does.
func Wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	children.Lock()
	delete(children.own, cmd.Process.Pid)
	children.Unlock()
	select {
	case children.reaped <- struct{}{}:
	default:
	}
	return err
}

// Started reports whether a process was started here and has not been waited for.
func Started(pid int) bool {
	children.Lock()
	defer children.Unlock()
	return children.own[pid]
}

// Command is a program to run.
type Command struct {
	Path string   // of the executable, as [Find] returns it
	Args []string // with the program's own name first
	Env  []string // NAME=value, and nothing else
	Dir  string   // the working directory; "" for the current one
	// Errors receives the standard error of [Run]; with nil it goes to the output. Both may be written to at the same
	// time.
	Errors io.Writer
}

// Find returns the path of a program: a name is looked up in PATH; anything with a slash is already a path.
func Find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	return "", &StartError{Program: name, Err: cause(err)}
}

// StartError names the program that could not be started, and the reason.
type StartError struct {
	Program string
	Err     error
}

// Error implements error.
func (e *StartError) Error() string { return fmt.Sprintf("starting %q: %v", e.Program, e.Err) }

// NotFound reports whether there is no such program.
func (e *StartError) NotFound() bool {
	return errors.Is(e.Err, exec.ErrNotFound) || errors.Is(e.Err, fs.ErrNotExist)
}

// Unwrap lets callers branch on the cause.
func (e *StartError) Unwrap() error { return e.Err }

// Heir is a running program that takes this one's place.
type Heir struct{ cmd *exec.Cmd }

// StartHeir starts a program with this one's standard streams and terminal, and with every descriptor that this
// process inherited, such as a service manager's sockets.
func StartHeir(c Command, attributes *syscall.SysProcAttr) (*Heir, error) {
	cmd := &exec.Cmd{
		Path: c.Path, Args: c.Args, Env: c.Env, Dir: c.Dir, SysProcAttr: attributes,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	if err := start(cmd, cmd.Start); err != nil {
		return nil, &StartError{Program: c.Args[0], Err: cause(err)}
	}
	return &Heir{cmd}, nil
}

// PID returns the process id.
func (h *Heir) PID() int { return h.cmd.Process.Pid }

// Signal sends a signal; after the end it returns [os.ErrProcessDone].
func (h *Heir) Signal(s os.Signal) error { return h.cmd.Process.Signal(s) }

// Wait waits for the end and returns the exit status as a shell reports it: 128 plus the signal's number if a signal
// ended the program.
func (h *Heir) Wait() int {
	_ = Wait(h.cmd) // the state has the details
	state := h.cmd.ProcessState
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

// cause drops the call and the path that the standard library adds.
func cause(err error) error {
	var path *os.PathError
	var call *os.SyscallError
	var lookup *exec.Error
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &call):
		return call.Err
	case errors.As(err, &lookup):
		return lookup.Err
	}
	return err
}
