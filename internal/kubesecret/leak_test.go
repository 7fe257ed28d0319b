package kubesecret_test

import (
	"os"
	"testing"

	"github.com/credagent/credagent/testkit/leaktest"
)

// TestMain looks for goroutines that the tests leave.
func TestMain(m *testing.M) { os.Exit(leaktest.Main(m)) }
