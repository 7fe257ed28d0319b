package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/credagent/credagent/internal/host"
	"github.com/credagent/credagent/internal/process"
)

// Signal sends a signal to the process whose id is in a file, which is read each time. A file can be wrong: it can
// name no process, or one that reuses the id of another that has ended. So the process is held by a pidfd (on Linux)
// before it is checked, one that is younger than the file is refused, and so are process 1 and the agent itself.
type Signal struct {
	PIDFile string
	Signal  string // its name, such as HUP
}

// String implements [Action].
func (s Signal) String() string { return "signal " + s.Signal }

// Run implements [Action].
func (s Signal) Run(context.Context) error {
	signal, err := process.ParseSignal(s.Signal)
	if err == nil {
		err = s.send(signal)
	}
	if err != nil {
		return fmt.Errorf("signalling the process in %q: %w", s.PIDFile, err)
	}
	return nil
}

func (s Signal) send(signal os.Signal) error {
	file, err := readPIDFile(s.PIDFile)
	if err != nil {
		return err
	}
	p, err := os.FindProcess(file.pid)
	if err != nil {
		return err
	}
	defer func() { _ = p.Release() }()
	if err := file.check(); err != nil {
		return err
	}
	err = p.Signal(signal)
	switch {
	case errors.Is(err, os.ErrProcessDone):
		return fmt.Errorf("no process has the number %d; the program is not running, or did not write its file", file.pid)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("process %d belongs to another user; run the agent as that user, or give it CAP_KILL", file.pid)
	}
	return err
}

// pidFile is the content of a pid file, and the file's own attributes.
type pidFile struct {
	pid  int
	info fs.FileInfo
}

// maxPIDFile is how many bytes of a file are read: some programs write more than one line.
const maxPIDFile = 64

func readPIDFile(path string) (pidFile, error) {
	owner := host.NoOwner
	if info, err := os.Lstat(path); err == nil {
		owner, _ = host.OwnerOf(info) // it may be in its owner's directory: then only that user's processes are accepted
	}
	file, err := host.File{Path: path, Owner: owner}.Open()
	if err != nil {
		return pidFile{}, cause(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return pidFile{}, cause(err)
	}
	if uid, known := host.OwnerOf(info); known && uid != owner {
		return pidFile{}, errors.New("it was replaced while it was opened")
	}
	if info.Mode().Perm()&0o022 != 0 {
		return pidFile{}, fmt.Errorf("others may write to it (mode %04o), and so have any process signalled; run: chmod go-w %q", info.Mode().Perm(), path)
	}
	content, err := io.ReadAll(io.LimitReader(file, maxPIDFile))
	if err != nil {
		return pidFile{}, cause(err)
	}
	pid, err := parsePID(string(content))
	return pidFile{pid, info}, err
}

// parsePID reads the process id in the first line.
func parsePID(content string) (int, error) {
	line, _, _ := strings.Cut(content, "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	switch {
	case strings.TrimSpace(line) == "":
		return 0, errors.New("it holds no number; the program has not written it yet")
	case err != nil || pid <= 0 || pid > math.MaxInt32:
		return 0, errors.New("what it holds is not the number of a process")
	case pid == 1:
		return 0, errors.New("it names process 1, the system's own; refusing")
	case pid == os.Getpid():
		return 0, errors.New("it names the agent itself; refusing")
	}
	return pid, nil
}

// cause drops the call and the path, which the message already has.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
