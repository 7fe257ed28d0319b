package main

import (
	"errors"
	"net"
	"os"
	"testing"
)

func TestOnlyATrustedListenerIsBelieved(t *testing.T) {
	for name, tc := range map[string]struct {
		listen  string
		trusted []int
		refused bool
	}{
		"one's own":         {"127.0.0.1:0", []int{0, os.Geteuid()}, false},
		"at every address":  {":0", []int{os.Geteuid()}, false},
		"somebody else's":   {"127.0.0.1:0", []int{61001}, true},
		"nobody is trusted": {"127.0.0.1:0", nil, true},
		"of an outsider":    {":0", []int{61001, 61002}, true},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", tc.listen)
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			_, port, err := net.SplitHostPort(listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			conn, err := dialTrusted(t.Context(), "127.0.0.1:"+port, tc.trusted)
			if conn != nil {
				defer conn.Close()
			}
			var untrusted *untrustedError
			if errors.As(err, &untrusted) != tc.refused || !tc.refused && err != nil || tc.refused && untrusted.uid != os.Geteuid() {
				t.Errorf("%v", err)
			}
		})
	}
}
