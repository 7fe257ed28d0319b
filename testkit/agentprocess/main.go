package agentprocess

import (
	"fmt"
	"os"
)

// Main builds credagent once for all tests of a package, says in program where it is, runs them, and
// returns what the test program is to exit with.
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
