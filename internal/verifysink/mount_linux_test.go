package verifysink

import (
	"os"
	"syscall"
	"testing"
)

func mount(t *testing.T, kind, dir, options string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("mounting %s needs root, and this test runs as user %d", kind, os.Geteuid())
	}
	if err := syscall.Mount("credagent-test", dir, kind, 0, options); err != nil {
		t.Skipf("%s cannot be mounted here: %v", kind, err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
}
