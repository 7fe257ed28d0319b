package process

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
)

// signals returns the signals that may ask a program to reload or to stop.
func signals() map[string]os.Signal {
	named := map[string]os.Signal{
		"ALRM": syscall.SIGALRM, "HUP": syscall.SIGHUP, "INT": syscall.SIGINT,
		"KILL": syscall.SIGKILL, "QUIT": syscall.SIGQUIT, "TERM": syscall.SIGTERM,
	}
	maps.Copy(named, systemSignals)
	return named
}

// ParseSignal reads a signal's name, in any case, with or without SIG before it.
func ParseSignal(name string) (os.Signal, error) {
	known := signals()
	s, ok := known[strings.TrimPrefix(strings.ToUpper(name), "SIG")]
	if !ok {
		return nil, fmt.Errorf("unknown signal %q, want one of %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
	}
	return s, nil
}
