package agent

import (
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/credagent/credagent/agent/config"
)

// remembered are directories as another process has left them.
type formerDirectories map[string]int

func (r formerDirectories) AddSinkDirectories(used map[string]int) (map[string]int, error) {
	maps.Copy(r, used)
	return maps.Clone(r), nil
}

func TestLeftOversWhereSinksWere(t *testing.T) {
	const temporary = ".credagent-token-0123456789abcdef"
	const app = 65532
	for name, tc := range map[string]struct {
		make  func(path string) error
		owner int // of the sink that was there
		stays bool
	}{
		"ours":            {func(path string) error { return os.WriteFile(path, nil, 0o600) }, -1, false},
		"of two names":    {func(path string) error { return os.WriteFile(path, nil, 0o600) }, app, false},
		"its owner's":     {func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, app, -1)) }, app, false},
		"somebody else's": {func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, app+1, -1)) }, app, true},
		"nobody's owner":  {func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, app, -1)) }, -1, true},
		"a link":          {func(path string) error { return os.Symlink("token", path) }, -1, true},
		"a directory":     {func(path string) error { return os.Mkdir(path, 0o700) }, -1, true},
		"in an open directory": {func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(filepath.Dir(path), 0o777))
		}, -1, true},
	} {
		t.Run(name, func(t *testing.T) {
			above := t.TempDir()
			former, now := filepath.Join(above, "former"), filepath.Join(above, "now")
			if err := errors.Join(os.Mkdir(former, 0o755), os.Mkdir(now, 0o755), os.WriteFile(filepath.Join(former, "token"), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(former, temporary)
			if err := tc.make(path); errors.Is(err, fs.ErrPermission) {
				t.Skip("giving a file away needs root")
			} else if err != nil {
				t.Fatal(err)
			}
			known := formerDirectories{former: tc.owner, filepath.Join(above, "gone"): -1}
			removeLeftOvers(known, []config.Sink{{Path: filepath.Join(now, "token"), Owner: "65532"}}, slog.New(slog.DiscardHandler))
			if _, err := os.Lstat(path); (err == nil) != tc.stays {
				t.Errorf("it stays: %v, want %v", err == nil, tc.stays)
			}
			if _, err := os.Stat(filepath.Join(former, "token")); err != nil {
				t.Error(err)
			}
			if owner, ok := known[now]; !ok || owner != app {
				t.Errorf("remembered are %v", known)
			}
		})
	}
}
