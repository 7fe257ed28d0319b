package api

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWhereASocketMayBe: whoever could replace a component of its path could have the mode of another
// file changed.
func TestWhereASocketMayBe(t *testing.T) {
	for name, tc := range map[string]struct {
		arrange func(t *testing.T, above, dir string)
		want    string
	}{
		"a directory of ours": {func(*testing.T, string, string) {}, ""},
		"everybody's above":   {func(t *testing.T, above, _ string) { mustDo(t, os.Chmod(above, 0o777)) }, "run: chmod go-w"},
		"a group's above":     {func(t *testing.T, above, _ string) { mustDo(t, os.Chmod(above, 0o775)) }, "run: chmod go-w"},
		"another's":           {func(t *testing.T, _, dir string) { mustDo(t, os.Chown(dir, 65533, 0)) }, "belongs to uid 65533"},
		"another's above":     {func(t *testing.T, above, _ string) { mustDo(t, os.Chown(above, 65533, 0)) }, "belongs to uid 65533"},
		"another's and sticky": {func(t *testing.T, _, dir string) {
			mustDo(t, os.Chown(dir, 65533, 0))
			mustDo(t, os.Chmod(dir, 0o777|os.ModeSticky))
		}, "belongs to uid 65533"},
	} {
		t.Run(name, func(t *testing.T) {
			if os.Geteuid() != 0 {
				t.Skip("giving directories away needs root")
			}
			above := filepath.Join(t.TempDir(), "above")
			dir := filepath.Join(above, "dir")
			mustDo(t, os.MkdirAll(dir, 0o755))
			tc.arrange(t, above, dir)
			path := filepath.Join(dir, "s")
			listener, err := SocketFile{Path: path, Mode: 0o660}.Listen(slog.Default())
			if err == nil {
				info, statErr := os.Lstat(path)
				mustDo(t, statErr)
				if info.Mode().Perm() != 0o660 {
					t.Errorf("its mode is %s", info.Mode())
				}
				mustDo(t, listener.Close())
			}
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Listen() = %v, want %q", err, tc.want)
			}
			if _, err := os.Lstat(path); err == nil {
				t.Error("the socket is still there")
			}
		})
	}
}
