//go:build unix

package sink

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/internal/token"
)

func TestDifferInTime(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, same := range map[string]bool{"same time": true, "other time": false} {
		t.Run(name, func(t *testing.T) {
			old, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if !same {
				later := old.ModTime().Add(time.Hour)
				if err := os.Chtimes(path, later, later); err != nil {
					t.Fatal(err)
				}
			}
			before, _ := os.Stat(path)
			if err := differInTime(root, "token", old); err != nil {
				t.Fatal(err)
			}
			after, _ := os.Stat(path)
			if after.ModTime().Equal(old.ModTime()) {
				t.Error("the time is still the old one")
			}
			if !same && !after.ModTime().Equal(before.ModTime()) {
				t.Error("a time that differs was changed")
			}
		})
	}
}

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
	f.syncDir = syncDirectory
	for _, want := range []Outcome{Written, Unchanged} {
		if outcome, err := f.Write(lookup); err != nil || outcome != want {
			t.Errorf("Write() = %s, %v, want %s", outcome, err, want)
		}
	}
}
