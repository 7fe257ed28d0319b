package clockwatch_test

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/internal/clockwatch"
	"github.com/credagent/credagent/testkit/leaktest"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Main(m)) }

func TestItTellsEachTimeTheClockIsSet(t *testing.T) {
	watch := open(t)
	for range 3 {
		setToNow(t)
		select {
		case <-watch.Jumps():
		case <-time.After(10 * time.Second):
			t.Fatal("it was not told")
		}
	}
}

func open(t *testing.T) *clockwatch.Watch {
	t.Helper()
	watch, err := clockwatch.New()
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := watch.Close(); err != nil {
			t.Error(err)
		}
	})
	return watch
}

// setToNow sets the clock to what it shows, which takes it back by the microsecond that this takes.
func setToNow(t *testing.T) {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		t.Fatal(err)
	}
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
		t.Skipf("setting the clock: %v", err)
	}
}
