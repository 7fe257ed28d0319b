//go:build !linux

package supervise

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// ignoredAtStart are the signals that Go's runtime reports.
func ignoredAtStart() []syscall.Signal {
	var ignored []syscall.Signal
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(s) {
			ignored = append(ignored, s)
		}
	}
	return ignored
}

// realTime are signals that Linux has.
func realTime() []os.Signal { return nil }

// handlesSignal is not known of another process here.
func handlesSignal(int, os.Signal) bool { return true }

// family is nothing that can be known here.
type family struct{}

func newFamily(Plan) *family { return nil }

func (*family) update(int) {}

func (*family) clear() []int { return nil }

func numbers(pids []int) string { return fmt.Sprint(pids) }
