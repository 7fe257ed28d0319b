//go:build unix

package hoststate

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSinkDirectories(t *testing.T) {
	host, sinks := t.TempDir(), t.TempDir()
	at := func(name string) string {
		dir := filepath.Join(sinks, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	a, b, c := at("a"), at("b"), at("c")
	damage := func() error { return os.WriteFile(filepath.Join(host, subdirectory, sinkDirsName), []byte("{"), 0o600) }
	for i, step := range []struct {
		before func() error
		used   map[string]int
		ever   map[string]int
		lost   bool
	}{
		{nil, map[string]int{a: -1}, map[string]int{a: -1}, false},
		{nil, map[string]int{b: 1000}, map[string]int{a: -1, b: 1000}, false},
		{nil, map[string]int{b: 1001}, map[string]int{a: -1, b: 1001}, false},
		{nil, map[string]int{}, map[string]int{a: -1, b: 1001}, false},
		{nil, nil, map[string]int{a: -1, b: 1001}, false},
		{func() error { return os.Remove(a) }, map[string]int{c: -1}, map[string]int{a: -1, b: 1001, c: -1}, false},
		{nil, map[string]int{c: -1}, map[string]int{b: 1001, c: -1}, false}, // it was gone
		{damage, map[string]int{c: -1}, map[string]int{c: -1}, true},
		{nil, map[string]int{c: -1}, map[string]int{c: -1}, false}, // it was written anew
		{damage, map[string]int{}, map[string]int{}, true},
		{nil, map[string]int{}, map[string]int{}, false},
	} {
		if step.before != nil {
			if err := step.before(); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(Options{State: host}) // another process each time
		if err != nil {
			t.Fatal(err)
		}
		ever, err := s.AddSinkDirectories(step.used)
		if (err != nil) != step.lost || !maps.Equal(ever, step.ever) {
			t.Errorf("step %d: %v, %v; want %v", i, ever, err, step.ever)
		}
		if step.lost && !strings.Contains(err.Error(), "it is written anew, look for temporary files of former sinks") {
			t.Errorf("step %d: the error does not say what is next: %v", i, err)
		}
		s.Close()
	}
	info, err := os.Stat(filepath.Join(host, subdirectory, sinkDirsName))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestManySinkDirectories: what was written is read again, however much that is.
func TestManySinkDirectories(t *testing.T) {
	sinks := t.TempDir()
	s := open(t, t.TempDir(), nil)
	used := map[string]int{}
	for i := range 700 {
		used[filepath.Join(sinks, fmt.Sprintf("%0120d", i))] = -1
	}
	former := filepath.Join(sinks, fmt.Sprintf("%0120d", 0))
	if err := os.Mkdir(former, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddSinkDirectories(used); err != nil {
		t.Fatal(err)
	}
	delete(used, former)
	ever, err := s.AddSinkDirectories(used)
	if _, known := ever[former]; err != nil || !known {
		t.Errorf("the former directory is forgotten, %v", err)
	}
}

// FuzzSinkDirectories reads what may be in the file.
func FuzzSinkDirectories(f *testing.F) {
	for _, seed := range []string{
		"", "{}", `{"directories":null}`, `{"directories":{"/run/app":-1}}`, `{"directories":{"/run/app":1000,"/srv":0}}`,
		`{"directories":{"run":0}}`, `{"directories":{"/run/../etc":0}}`, `{"directories":{"/run":-2}}`, `{"directories":{"/run":4294967295}}`, `[]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		known, err := decodeSinkDirs(content)
		if err != nil {
			return
		}
		for path, owner := range known {
			if !filepath.IsAbs(path) || owner < -1 {
				t.Errorf("%q names %q, %d", content, path, owner)
			}
		}
		text, err := json.Marshal(sinkDirs{known})
		again, err2 := decodeSinkDirs(text)
		if err != nil || err2 != nil || !maps.Equal(again, known) {
			t.Errorf("%q is %v, read again %v, %v, %v", content, known, again, err, err2)
		}
	})
}

// TestSinkDirectoriesAfterTheEnd: a start that failed closes the store while they are still being kept,
// which is nothing that anybody should hear of.
func TestSinkDirectoriesAfterTheEnd(t *testing.T) {
	host, dir := t.TempDir(), t.TempDir()
	s, err := Open(Options{State: host})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := s.AddSinkDirectories(map[string]int{dir: -1}); err != nil {
		t.Error(err)
	}
	again, err := Open(Options{State: host})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if ever, err := again.AddSinkDirectories(map[string]int{}); err != nil || len(ever) != 0 {
		t.Errorf("a store that was closed has written: %v, %v", ever, err)
	}
}
