// Package leaktest fails a package's tests when they leave goroutines running.
//
// It checks once, after the last test: goroutines that a test forgot are still running then, and those about to end
// get a moment to do so. One caveat: it sees only this process.
package leaktest

import (
	"fmt"
	"net/http"
	"os"

	"go.uber.org/goleak"
)

// Tests is what a TestMain runs, a [testing.M].
type Tests interface{ Run() int }

// Main runs the tests and returns the exit status.
func Main(m Tests) int {
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintf(os.Stderr, "the tests leave goroutines: %v\n", err)
		return 1
	}
	return 0
}
