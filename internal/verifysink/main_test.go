package verifysink

import (
	"os"
	"testing"

	"github.com/credagent/credagent/testkit/leaktest"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Main(m)) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
