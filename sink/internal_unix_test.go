//go:build unix

package sink

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/credagent/credagent/internal/atomicfile"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/token"
)

func TestUnsyncedDirectoryIsSyncedByTheNextWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	f, err := New(Options{Path: path, Renderer: Raw("graph")})
	if err != nil {
		t.Fatal(err)
	}
	lookup := func(name string) (token.Token, bool) {
		return token.Token{Name: name, AccessToken: secret.New("one")}, true
	}
	lost := errors.New("input/output error")
	f.syncDir = func(*os.Root) error { return lost }
	for range 2 {
		if outcome, err := f.Write(lookup); !errors.Is(err, lost) {
			t.Fatalf("Write() = %s, %v", outcome, err)
		}
	}
	f.syncDir = atomicfile.SyncDirectory
	for _, want := range []Outcome{Written, Unchanged} {
		if outcome, err := f.Write(lookup); err != nil || outcome != want {
			t.Errorf("Write() = %s, %v, want %s", outcome, err, want)
		}
	}
}
