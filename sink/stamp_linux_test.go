package sink_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/credagent/credagent/sink"
)

// untilUntouched looks at a file until it is old enough for the kernel to tell of a change.
func untilUntouched(tb testing.TB, f *sink.File, lookup sink.Lookup) {
	tb.Helper()
	every := time.NewTicker(50 * time.Millisecond)
	defer every.Stop()
	for begun := time.Now(); !f.Untouched(); <-every.C {
		if ok, err := f.Holds(lookup); err != nil || !ok {
			tb.Fatalf("Holds() = %t, %v", ok, err)
		}
		if time.Since(begun) > 10*time.Second {
			tb.Fatal("it is never untouched")
		}
	}
}

// TestTouched does things to a file that somebody has looked at, down to those that leave its content
// and modification time as they were.
func TestTouched(t *testing.T) {
	var tests []touching
	for name, touch := range map[string]func(path string) error{
		"nothing":  nil,
		"removed":  os.Remove,
		"mode":     func(path string) error { return os.Chmod(path, 0o644) },
		"owner":    func(path string) error { return os.Chown(path, os.Getuid(), os.Getgid()) },
		"time":     func(path string) error { return os.Chtimes(path, time.Now(), time.Now()) },
		"linked":   func(path string) error { return os.Link(path, path+".other") },
		"content":  func(path string) error { return os.WriteFile(path, []byte("same-length"), 0o640) },
		"replaced": replaceByItself,
		"restored": func(path string) error {
			info, err := os.Stat(path)
			if err == nil {
				err = os.WriteFile(path, []byte("same-length"), 0o640)
			}
			if err == nil {
				err = os.Chtimes(path, info.ModTime(), info.ModTime())
			}
			return err
		},
	} {
		path := filepath.Join(t.TempDir(), "token")
		f := newSink(t, sink.Options{Path: path, Mode: 0o640})
		write(t, f, "the-content", sink.Written)
		if f.Untouched() {
			t.Error("nobody has looked at it, but it is untouched")
		}
		tests = append(tests, touching{name, path, f, touch})
	}
	for _, tt := range tests { // they get old together
		untilUntouched(t, tt.file, having(graph("the-content")))
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.touch != nil {
				must(t, tt.touch(tt.path))
			}
			if tt.file.Untouched() != (tt.touch == nil) {
				t.Errorf("Untouched() = %t", tt.file.Untouched())
			}
		})
	}
}

type touching struct {
	name, path string
	file       *sink.File
	touch      func(path string) error
}

// replaceByItself puts a copy of a file in its place.
func replaceByItself(path string) error {
	content, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path+".new", content, 0o640)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	return err
}

// TestJustWrittenIsNotUntouched: in the same tick of the file system's clock, a change would not show.
func TestJustWrittenIsNotUntouched(t *testing.T) {
	f := newSink(t, sink.Options{Path: filepath.Join(t.TempDir(), "token")})
	write(t, f, "the-content", sink.Written)
	if ok, err := f.Holds(having(graph("the-content"))); err != nil || !ok || f.Untouched() {
		t.Errorf("Holds() = %t, %v, Untouched() = %t", ok, err, f.Untouched())
	}
}
