package loopback_test

import (
	"testing"

	"github.com/credagent/credagent/internal/loopback"
)

func TestIsHost(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LocalHost": true, "127.0.0.1": true, "127.3.2.1": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "localhost.": false, "localhost.example.com": false, "0.0.0.0": false, "::": false, "10.0.0.1": false,
		"::1%lo": false, "127.1": false, "2130706433": false, "[::1]": false, "127.0.0.1:80": false,
	} {
		if got := loopback.IsHost(host); got != want {
			t.Errorf("IsHost(%q) = %v, want %v", host, got, want)
		}
	}
}

func TestIsHostPort(t *testing.T) {
	for hostport, want := range map[string]bool{
		"localhost:80": true, "127.0.0.1:9465": true, "[::1]:80": true, "localhost": true, "127.0.0.1": true, "[::1]": true, "::1": true,
		"": false, ":9465": false, "0.0.0.0:80": false, "[::]:80": false, "example.com:80": false, "localhost.example.com:80": false,
		"[::1%lo]:80": false, "127.0.0.1.example.com": false,
	} {
		if got := loopback.IsHostPort(hostport); got != want {
			t.Errorf("IsHostPort(%q) = %v, want %v", hostport, got, want)
		}
	}
}
