package sink_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/sink"
	"github.com/credagent/credagent/token"
)

const canary = "canary-8f2a.31-4c"

func graph(content string) token.Token {
	return token.Token{
		Name:        "graph",
		AccessToken: secret.New(content),
		TokenType:   "Bearer",
		Expiry:      time.Date(2031, 5, 6, 7, 8, 9, 987e6, time.FixedZone("", 2*3600)),
		RefreshOn:   time.Date(2031, 5, 6, 4, 38, 9, 0, time.UTC),
		Scope:       "read <write>",
		ClientID:    "app-1",
	}
}

func having(tokens ...token.Token) sink.Lookup {
	return func(name string) (token.Token, bool) {
		for _, t := range tokens {
			if t.Name == name {
				return t, true
			}
		}
		return token.Token{}, false
	}
}

func newSink(tb testing.TB, o sink.Options) *sink.File {
	tb.Helper()
	if o.Renderer == nil {
		o.Renderer = sink.Raw("graph")
	}
	f, err := sink.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// write expects an outcome of writing content.
func write(tb testing.TB, f *sink.File, content string, want sink.Outcome) {
	tb.Helper()
	got, err := f.Write(having(graph(content)))
	if err != nil {
		tb.Fatal(err)
	}
	if got != want {
		tb.Fatalf("Write() = %s, want %s", got, want)
	}
}

func wantContent(tb testing.TB, path, want string) {
	tb.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	if string(got) != want {
		tb.Errorf("%s holds %q, want %q", filepath.Base(path), got, want)
	}
}

func wantEntries(tb testing.TB, dir string, want ...string) {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		tb.Errorf("directory has %q, want %q", got, want)
	}
}

func wantError(tb testing.TB, err error, parts ...string) {
	tb.Helper()
	if err == nil {
		tb.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			tb.Errorf("error %q does not say %q", err, part)
		}
	}
}

func stat(tb testing.TB, path string) os.FileInfo {
	tb.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		tb.Fatal(err)
	}
	return info
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
