package provider

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// selfReport is what a provider's process sees of itself.
type selfReport struct {
	PID, Parent, Group, Session int
	Dir                         string
	Args, Environment           []string
	Descriptors                 map[string]string // number → what it is
	Status                      map[string]string // of /proc/thread-self/status
	Dumpable                    int
	Core                        unix.Rlimit
}

// reportSelf writes a [selfReport] to a file.
func reportSelf(path string) error {
	r := selfReport{
		PID: os.Getpid(), Parent: os.Getppid(), Group: unix.Getpgrp(),
		Args: os.Args, Environment: os.Environ(),
		Descriptors: map[string]string{}, Status: map[string]string{},
	}
	r.Session, _ = unix.Getsid(0)
	r.Dir, _ = os.Getwd()
	r.Dumpable, _ = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	_ = unix.Getrlimit(unix.RLIMIT_CORE, &r.Core)
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, at := range links {
		if link, err := os.Readlink(at); err == nil {
			r.Descriptors[filepath.Base(at)] = link
		}
	}
	status, _ := os.ReadFile("/proc/thread-self/status")
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		r.Status[key] = strings.TrimSpace(value)
	}
	encoded, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(path, encoded, 0o600)
}
