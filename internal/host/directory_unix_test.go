//go:build unix

package host_test

import (
	"io/fs"
	"os"
	"testing"

	"github.com/credagent/credagent/internal/host"
)

func TestCheckDirectory(t *testing.T) {
	for mode, sound := range map[fs.FileMode]bool{
		0o700: true, 0o755: true, 0o711: true,
		0o775: false, 0o757: false, 0o777: false, 0o720: false,
		0o777 | fs.ModeSticky: true, 0o770 | fs.ModeSticky: true, 0o775 | fs.ModeSetgid: false,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Chmod(dir, mode); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := host.CheckDirectory(dir, info); (err == nil) != sound {
				t.Errorf("CheckDirectory = %v, want it sound: %v", err, sound)
			}
		})
	}
}
