package redact

import (
	"os"
	"testing"

	"github.com/credagent/credagent/internal/leaktest"
)

// TestMain looks for goroutines that the tests leave.
func TestMain(m *testing.M) { os.Exit(leaktest.Main(m)) }
