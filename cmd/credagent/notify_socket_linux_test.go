package main

import (
	"net"
	"path/filepath"
	"testing"
	"time"
)

// TestANotifySocketDelaysNothing: one that has gone, was never there, or takes no more.
func TestANotifySocketDelaysNothing(t *testing.T) {
	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	listener, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: full, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for range 1000 { // far more than a queue holds
		if sendNotify(full, "STATUS=filling") != nil {
			break
		}
	}
	gone := filepath.Join(dir, "gone")
	left, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: gone, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	left.Close()
	for name, tc := range map[string]struct {
		socket string
		fails  bool
	}{
		"full":         {full, true},
		"gone":         {gone, true},
		"never there":  {filepath.Join(dir, "never"), true},
		"a directory":  {dir, true},
		"an empty one": {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			err := sendNotify(tc.socket, "STOPPING=1")
			if took := time.Since(began); (err != nil) != tc.fails || took > time.Second {
				t.Errorf("%v after %v", err, took)
			}
		})
	}
}
