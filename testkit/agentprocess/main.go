package agentprocess

import (
	"fmt"
	"os"
)

// Main builds credagent once for all tests of a package, sets program to its path, runs them, and returns the exit
// status of the test program.
func Main(program *string, run func() int) int {
	dir, err := os.MkdirTemp("", "credagent-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if *program, err = Credagent(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return run()
}
