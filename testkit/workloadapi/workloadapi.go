// Package workloadapi serves a SPIFFE Workload API at a unix socket, for tests.
package workloadapi

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
)

// Serve serves an API until the test ends, and returns the path of its socket.
func Serve(t *testing.T, api workload.SpiffeWorkloadAPIServer) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "spiffe") // a short path: that of a unix socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "api.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server, done := grpc.NewServer(), make(chan struct{})
	workload.RegisterSpiffeWorkloadAPIServer(server, api)
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return socket
}
