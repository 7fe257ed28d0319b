package signals

import (
	"log/slog"
	"os"
	"testing"

	"github.com/credagent/credagent/testkit/leaktest"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Main(m)) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
