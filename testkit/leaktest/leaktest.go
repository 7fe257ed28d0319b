// Package leaktest fails a package's tests when they leave goroutines running.
//
// It looks once, after the last test: what a test started and forgot is still there then, and what
// is about to end gets a moment to do so. One caveat: it sees only this process.
package leaktest

import (
	"fmt"
	"net/http"
	"os"

	"go.uber.org/goleak"
)

// Tests are what a TestMain runs, a [testing.M].
type Tests interface{ Run() int }

// Main runs the tests and returns what to exit with.
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
