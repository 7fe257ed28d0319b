package peer_test

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/credagent/credagent/internal/peer"
	"github.com/credagent/credagent/testkit/peertest"
)

// dialVariable makes the test binary connect to a socket, or host:port, and stay until that is closed.
const dialVariable = "CREDAGENT_TEST_DIAL"

func TestMain(m *testing.M) {
	if at := os.Getenv(dialVariable); at != "" {
		network := "unix"
		if !filepath.IsAbs(at) {
			network = "tcp"
		}
		conn, err := net.Dial(network, at)
		if err != nil {
			os.Exit(1)
		}
		_, _ = io.Copy(io.Discard, conn)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestWhoConnected(t *testing.T) {
	many := make([]uint32, 100)
	for i := range many {
		many[i] = uint32(70000 + i)
	}
	for name, as := range map[string]peertest.Identity{
		"a user with a group":       {UID: 61001, GID: 61002},
		"with supplementary groups": {UID: 61001, GID: 61002, Groups: []uint32{61003, 61004}},
		"with many":                 {UID: 61001, GID: 61002, Groups: many},
		"root":                      {UID: 0, GID: 0, Groups: []uint32{0}},
	} {
		t.Run(name, func(t *testing.T) {
			listener, path := listen(t)
			cmd := peertest.Command(t, as)
			got := connected(t, listener, path, cmd)
			want := []int{int(as.GID)}
			for _, group := range as.Groups {
				want = append(want, int(group))
			}
			if got.UID != int(as.UID) || !slices.Equal(got.GIDs, want) {
				t.Errorf("user %d with groups %v, want %d with %v", got.UID, got.GIDs, as.UID, want)
			}
		})
	}
}

func TestOneself(t *testing.T) {
	listener, path := listen(t)
	got := connected(t, listener, path, exec.CommandContext(t.Context(), os.Args[0]))
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if want := append([]int{os.Getegid()}, groups...); got.UID != os.Geteuid() || !slices.Equal(got.GIDs, want) {
		t.Errorf("%+v, want user %d with %v", got, os.Geteuid(), want)
	}
}

// TestWhoIsGoneIsStillKnown: what counts is who connected, not what runs under that number now.
func TestWhoIsGoneIsStillKnown(t *testing.T) {
	listener, path := listen(t)
	cmd := peertest.Command(t, peertest.Identity{UID: 61001, GID: 61002, Groups: []uint32{61003}})
	cmd.Env = append(os.Environ(), dialVariable+"="+path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := listener.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if got, err := peer.Of(conn); err != nil || got.UID != 61001 || !slices.Equal(got.GIDs, []int{61002, 61003}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestNobodyIsThere(t *testing.T) {
	listener, path := listen(t)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	accepted, err := listener.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	accepted.Close()
	if got, err := peer.Of(accepted); err == nil {
		t.Errorf("a closed connection is from %+v", got)
	}
}

// TestWhichUserConnectedByTCP: while the other end is there, its user is known, and never taken for root
// when it is gone.
func TestWhichUserConnectedByTCP(t *testing.T) {
	for name, address := range map[string]string{"IPv4": "127.0.0.1:0", "IPv6": "[::1]:0"} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", address)
			if err != nil {
				t.Skipf("listening at %s: %v", address, err)
			}
			defer listener.Close()
			cmd := peertest.Command(t, peertest.Identity{UID: 61001, GID: 61002})
			cmd.Env = append(os.Environ(), dialVariable+"="+listener.Addr().String())
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			conn, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if uid, err := peer.UserOf(conn.(*net.TCPConn)); err != nil || uid != 61001 {
				t.Errorf("user %d, %v", uid, err)
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if uid, err := peer.UserOf(conn.(*net.TCPConn)); err == nil {
				t.Errorf("who is gone is taken for user %d", uid)
			}
		})
	}
}

func TestWhichUserOfAClosedConnection(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	there, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	here, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if uid, err := peer.UserOf(here.(*net.TCPConn)); err != nil || uid != os.Geteuid() {
		t.Errorf("user %d, %v, want oneself", uid, err)
	}
	there.Close()
	if uid, err := peer.UserOf(here.(*net.TCPConn)); err == nil {
		t.Errorf("what was closed is taken for user %d", uid)
	}
	here.Close()
	if uid, err := peer.UserOf(here.(*net.TCPConn)); err == nil {
		t.Errorf("a closed connection is of user %d", uid)
	}
}

func listen(t *testing.T) (*net.UnixListener, string) {
	t.Helper()
	path := filepath.Join(peertest.Dir(t), "socket")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	return listener, path
}

// connected runs a command that connects, and returns who that was.
func connected(t *testing.T, listener *net.UnixListener, path string, cmd *exec.Cmd) peer.Peer {
	t.Helper()
	cmd.Env = append(os.Environ(), dialVariable+"="+path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := listener.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	got, err := peer.Of(conn)
	if err != nil {
		t.Error(err)
	}
	conn.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the other end: %v", err)
	}
	return got
}
