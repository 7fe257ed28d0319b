//go:build !linux

package supervise

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// ignoredAtStart returns the signals that Go's runtime reports.
func ignoredAtStart() []syscall.Signal {
	var ignored []syscall.Signal
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(s) {
			ignored = append(ignored, s)
		}
	}
	return ignored
}

// realTime returns none: only Linux has real-time signals here.
func realTime() []os.Signal { return nil }

// handlesSignal cannot be determined for another process here.
func handlesSignal(int, os.Signal) bool { return true }

// family is empty: descendants cannot be determined here.
type family struct{}

func newFamily(Plan) *family { return nil }

func (*family) update(int) {}

func (*family) clear() []int { return nil }

func numbers(pids []int) string { return fmt.Sprint(pids) }
