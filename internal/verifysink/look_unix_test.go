//go:build unix

package verifysink

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/host"
)

// TestLook is every state in which a reader can find the file.
func TestLook(t *testing.T) {
	whole := seal("nonce", 3)
	for name, tc := range map[string]struct {
		content []byte // nil for no file
		mode    os.FileMode
		uid     int
		newest  int // that this reader has seen
		done    int // that the writer has written
		want    func(*tally) *finding
	}{
		"as it should be":      {whole, 0o640, os.Geteuid(), 2, 3, nil},
		"newer than is known":  {whole, 0o640, os.Geteuid(), 2, 2, nil},
		"no owners":            {whole, 0o640, host.NoOwner, 2, 3, nil},
		"missing":              {nil, 0, os.Geteuid(), 2, 3, func(t *tally) *finding { return &t.Missing }},
		"empty":                {[]byte{}, 0o640, os.Geteuid(), 2, 3, func(t *tally) *finding { return &t.Empty }},
		"torn":                 {whole[:50], 0o640, os.Geteuid(), 2, 3, func(t *tally) *finding { return &t.Torn }},
		"somebody else's":      {seal("other", 3), 0o640, os.Geteuid(), 2, 3, func(t *tally) *finding { return &t.Torn }},
		"endless":              {make([]byte, 3*maxContent), 0o640, os.Geteuid(), 2, 3, func(t *tally) *finding { return &t.Torn }},
		"read by everybody":    {whole, 0o644, os.Geteuid(), 2, 3, func(t *tally) *finding { return &t.Wide }},
		"written by the group": {whole, 0o660, os.Geteuid(), 2, 3, func(t *tally) *finding { return &t.Wide }},
		"run by the owner":     {whole, 0o740, os.Geteuid(), 2, 3, func(t *tally) *finding { return &t.Wide }},
		"another owner":        {whole, 0o640, os.Geteuid() + 1, 2, 3, func(t *tally) *finding { return &t.Wide }},
		"the group shut out":   {whole, 0o600, os.Geteuid(), 2, 3, func(t *tally) *finding { return &t.Narrow }},
		"older than before":    {whole, 0o640, os.Geteuid(), 4, 3, func(t *tally) *finding { return &t.Back }},
		"older than written":   {whole, 0o640, os.Geteuid(), 2, 4, func(t *tally) *finding { return &t.Stale }},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "token")
			if tc.content != nil {
				must(t, os.WriteFile(path, tc.content, 0o600))
				must(t, os.Chmod(path, tc.mode))
			}
			known := new(published)
			for n := 1; n <= tc.done; n++ {
				known.done(n, time.Now())
			}
			r := reader{target: target{Path: path, Nonce: "nonce", Mode: 0o640, UID: tc.uid}, published: known, newest: tc.newest}
			r.look()
			want := tally{Looks: 1, Slowest: r.tally.Slowest, Late: r.tally.Late}
			if tc.want != nil {
				*tc.want(&want) = *tc.want(&r.tally)
				if tc.want(&r.tally).Count != 1 || tc.want(&r.tally).First == "" {
					t.Error("it was not noticed")
				}
			}
			if r.tally != want {
				t.Errorf("seen: %+v", r.tally)
			}
		})
	}
}

func TestBehind(t *testing.T) {
	start := time.Now()
	p := new(published)
	const writes = remembered + 100
	for n := 1; n <= writes; n++ {
		p.done(n, start.Add(time.Duration(n)*time.Second))
	}
	now := start.Add((writes + 1) * time.Second)
	for seen, want := range map[int]time.Duration{
		writes - 1: time.Second,
		writes - 2: 2 * time.Second,
		3:          remembered * time.Second, // and longer, but that is not known any more
	} {
		if got := p.behind(seen, now); got != want {
			t.Errorf("behind(%d) = %v, want %v", seen, got, want)
		}
	}
}
