package loop

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// scripted is a library that follows the test's script and counts its calls.
type scripted struct {
	asked int
	token string
	err   error
	says  string // the Retry-After of the answer in the error
}

func (s *scripted) Token(context.Context, string) (string, error) {
	s.asked++
	return s.token, s.err
}

func (s *scripted) Answer(error) *http.Response {
	if s.says == "" {
		return nil
	}
	return &http.Response{Header: http.Header{"Retry-After": {s.says}}}
}

func TestLoopAsksAtEachPollAndHonoursRetryAfter(t *testing.T) {
	for name, tt := range map[string]struct {
		library scripted
		asked   int // in 95 seconds, with a poll of 10 and two tokens
	}{
		"good tokens":            {scripted{token: "t"}, 20},
		"an error":               {scripted{err: errors.New("no")}, 20},
		"a Retry-After":          {scripted{err: errors.New("no"), says: "60"}, 2},
		"one below the poll":     {scripted{err: errors.New("no"), says: "1"}, 10},
		"one that says nothing":  {scripted{err: errors.New("no"), says: "soon"}, 20},
		"one that is still held": {scripted{err: errors.New("no"), says: "600"}, 1},
	} {
		dir := t.TempDir()
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 95*time.Second)
				defer cancel()
				k := keeper{log: slog.New(slog.DiscardHandler), library: &tt.library, poll: 10 * time.Second, files: []file{{scope: "a", path: filepath.Join(dir, "a")}, {scope: "b", path: filepath.Join(dir, "b")}}}
				k.keep(ctx)
				if tt.library.asked != tt.asked {
					t.Errorf("the library was asked %d times, want %d", tt.library.asked, tt.asked)
				}
			})
		})
	}
}

func TestLoopReplacesTheFileWhenTheTokenIsAnother(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	library := &scripted{}
	k := keeper{log: slog.New(slog.DiscardHandler), library: library, files: []file{{scope: "a", path: path}}}
	var before os.FileInfo
	for _, step := range []struct {
		token    string
		replaced bool
	}{{"one", true}, {"one", false}, {"two", true}} {
		library.token = step.token
		k.round(t.Context())
		content, err := os.ReadFile(path)
		if err != nil || string(content) != step.token {
			t.Fatalf("the file holds %q, %v, want %q", content, err, step.token)
		}
		now, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if before != nil && os.SameFile(before, now) == step.replaced {
			t.Errorf("token %q: the file was replaced: %t, want %t", step.token, !step.replaced, step.replaced)
		}
		before = now
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the directory has %v, %v, want the token's file alone", entries, err)
	}
}
