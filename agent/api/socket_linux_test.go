package api

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/testkit/peertest"
)

// askVariable makes the test binary ask for what its arguments say, and print the status.
const askVariable = "CREDAGENT_TEST_ASK"

// endless is longer than any test waits.
const endless = 30 * time.Second

func TestMain(m *testing.M) {
	if path := os.Getenv(askVariable); path != "" {
		os.Exit(ask(path, os.Args[1], os.Args[2:]))
	}
	os.Exit(m.Run())
}

// ask prints the status of each path's answer, or why there is none.
func ask(socket, method string, paths []string) int {
	for _, path := range paths {
		request, err := http.NewRequest(method, "http://credagent"+path, strings.NewReader(goodChallenge))
		if err != nil {
			return 1
		}
		if method == http.MethodGet {
			request.Body = http.NoBody
		}
		response, err := overSocket(socket).Do(request)
		if err != nil {
			fmt.Println(systemError(err))
			continue
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		fmt.Println(response.StatusCode)
	}
	return 0
}

func overSocket(path string) *http.Client {
	return &http.Client{Timeout: endless, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
}

// serveLocal serves a broker's tokens at a socket that only mode and group keep others from.
func serveLocal(t testing.TB, f SocketFile, broker Broker) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	listener, err := f.Listen(log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := Serve(ctx, listener, Local(broker, os.Geteuid(), log), log); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		serving.Wait()
	})
}

// TestOtherUsers lets other users of the machine ask, whom the kernel tells apart.
func TestOtherUsers(t *testing.T) {
	file := SocketFile{Path: filepath.Join(peertest.Dir(t), "socket"), Mode: 0o660, Group: "62100"}
	const connects = 62100
	tests := []struct {
		name    string
		as      peertest.Identity
		allowed string // the answers for a token there is, one there is not, and the state
	}{
		{"root", peertest.Identity{}, "200 404 200"},
		{"a user", peertest.Identity{UID: allowedUser, GID: connects}, "200 403 200"},
		{"by primary group", peertest.Identity{UID: strangeUser, GID: allowedGroup, Groups: []uint32{connects}}, "200 403 200"},
		{"by supplementary group", peertest.Identity{UID: strangeUser, GID: connects, Groups: []uint32{strangeGroup, allowedGroup}}, "200 403 200"},
		{"a stranger", peertest.Identity{UID: strangeUser, GID: connects, Groups: []uint32{strangeGroup, 0}}, "403 403 403"},
		{"who may not connect", peertest.Identity{UID: allowedUser, GID: allowedGroup}, "permission denied permission denied permission denied"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cmd := peertest.Command(t, test.as, "GET", "/v1/tokens/known", "/v1/tokens/unknown", "/v1/status")
			serveLocal(t, file, &tokens{})
			cmd.Env = append(os.Environ(), askVariable+"="+file.Path)
			out, err := cmd.CombinedOutput()
			if got := strings.Join(strings.Split(strings.TrimSpace(string(out)), "\n"), " "); err != nil || got != test.allowed {
				t.Errorf("the answers are %q, %v; want %q", got, err, test.allowed)
			}
		})
	}
}

// TestTheAgentsOwnUser is served though it is not root and nobody allows it.
func TestTheAgentsOwnUser(t *testing.T) {
	file := SocketFile{Path: filepath.Join(t.TempDir(), "socket"), Mode: 0o600}
	serveLocal(t, file, &tokens{})
	response, err := overSocket(file.Path).Get("http://credagent/v1/tokens/unknown")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("status %d, want 404: it may know which tokens there are", response.StatusCode)
	}
}

func TestSocketFile(t *testing.T) {
	for _, umask := range []int{0, 0o077, 0o777} {
		for _, mode := range []fs.FileMode{0o600, 0o660, 0o664} {
			t.Run(fmt.Sprintf("umask %04o, mode %04o", umask, mode), func(t *testing.T) {
				defer syscall.Umask(syscall.Umask(umask))
				path := filepath.Join(peertest.Dir(t), "socket")
				listener, err := SocketFile{Path: path, Mode: mode, Group: strconv.Itoa(os.Getegid())}.Listen(slog.Default())
				if err != nil {
					t.Fatal(err)
				}
				info, err := os.Lstat(path)
				if err != nil || info.Mode() != fs.ModeSocket|mode {
					t.Errorf("%v, %v; want mode %v", info.Mode(), err, mode)
				}
				if err := listener.Close(); err != nil {
					t.Error(err)
				}
				if _, err := os.Lstat(path); !os.IsNotExist(err) {
					t.Errorf("after the end: %v, want the file gone", err)
				}
			})
		}
	}
}

func TestSocketGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skipf("giving a file to any group needs root, and this test runs as user %d", os.Geteuid())
	}
	path := filepath.Join(t.TempDir(), "socket")
	listener, err := SocketFile{Path: path, Mode: 0o660, Group: "62100"}.Listen(slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if stat := info.Sys().(*syscall.Stat_t); stat.Gid != 62100 || int(stat.Uid) != os.Geteuid() || info.Mode().Perm() != 0o660 {
		t.Errorf("group %d, user %d, mode %v", stat.Gid, stat.Uid, info.Mode())
	}
}

// TestSocketIsNobodysAtFirst looks at the file between the bind and the mode.
func TestSocketIsNobodysAtFirst(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := filepath.Join(t.TempDir(), "socket")
	config := net.ListenConfig{Control: ownerOnly}
	listener, err := config.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want it the owner's alone", info.Mode(), err)
	}
}

// leaveStale leaves a socket as a killed process does.
func leaveStale(t *testing.T, path string) {
	t.Helper()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsAtTheSocketsPlace(t *testing.T) {
	tests := []struct {
		name string
		put  func(t *testing.T, path string)
		want string // in the error; "" for none
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"a socket that was left", leaveStale, ""},
		{"a socket that is in use", func(t *testing.T, path string) {
			serveLocal(t, SocketFile{Path: path, Mode: 0o600}, &tokens{})
		}, "another process listens there"},
		{"a file", func(t *testing.T, path string) { mustDo(t, os.WriteFile(path, []byte("precious"), 0o600)) }, "it is not a socket"},
		{"a directory", func(t *testing.T, path string) { mustDo(t, os.Mkdir(path, 0o700)) }, "it is not a socket"},
		{"a link to a socket that was left", func(t *testing.T, path string) {
			leaveStale(t, path+"2")
			mustDo(t, os.Symlink(path+"2", path))
		}, "it is not a socket"},
		{"an open directory", func(t *testing.T, path string) { mustDo(t, os.Chmod(filepath.Dir(path), 0o777)) }, "run: chmod go-w"},
		{"no directory", func(t *testing.T, path string) { mustDo(t, os.Remove(filepath.Dir(path))) }, "create it, for example with RuntimeDirectory="},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(peertest.Dir(t), "socket")
			test.put(t, path)
			before, _ := os.Lstat(path)
			listener, err := SocketFile{Path: path, Mode: 0o600}.Listen(slog.Default())
			if test.want == "" {
				mustDo(t, err)
				mustDo(t, listener.Close())
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q", err, test.want)
			}
			if after, err := os.Lstat(path); before != nil && (err != nil || !os.SameFile(before, after)) {
				t.Errorf("what was there is gone: %v", err)
			}
		})
	}
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestUnknownSocketGroup(t *testing.T) {
	_, err := SocketFile{Path: filepath.Join(t.TempDir(), "s"), Mode: 0o660, Group: "no-such-group"}.Listen(slog.Default())
	if err == nil || !strings.Contains(err.Error(), "no such group: it is not in /etc/group") {
		t.Errorf("the error is %v", err)
	}
}

// TestCloseLeavesAnothersSocket: who starts while the old one still runs keeps its socket.
func TestCloseLeavesAnothersSocket(t *testing.T) {
	file := SocketFile{Path: filepath.Join(t.TempDir(), "socket"), Mode: 0o600}
	old, err := file.Listen(slog.Default())
	mustDo(t, err)
	mustDo(t, os.Remove(file.Path))
	young, err := file.Listen(slog.Default())
	mustDo(t, err)
	mustDo(t, old.Close())
	if _, err := os.Lstat(file.Path); err != nil {
		t.Error("the end of the old one took the new one's socket away")
	}
	mustDo(t, young.Close())
}

// TestRawRequests sends what no client would, and then asks for a token.
func TestRawRequests(t *testing.T) {
	file := SocketFile{Path: filepath.Join(t.TempDir(), "socket"), Mode: 0o600}
	serveLocal(t, file, &tokens{})
	const host = "Host: credagent\r\n"
	tests := []struct{ name, request, want string }{
		{"nonsense", "\x00\xff\r\n\r\n", "400"},
		{"no host", "GET /v1/status HTTP/1.1\r\n\r\n", "400"},
		{"an odd version", "GET /v1/status HTTP/9.9\r\n" + host + "\r\n", "505"},
		{"a header without end", "GET /v1/status HTTP/1.1\r\n" + host + "X: " + strings.Repeat("x", 32<<10) + "\r\n\r\n", "431"},
		{"two lengths", "POST /v1/tokens/known/refresh HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "400"},
		{"a length too large", "POST /v1/tokens/known/refresh HTTP/1.1\r\n" + host + "Content-Length: 99999999999999999999\r\n\r\n", "400"},
		{"a huge body", "POST /v1/tokens/known/refresh HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n20000\r\n" + strings.Repeat("x", 0x20000) + "\r\n0\r\n\r\n", "413"},
		{"a damaged body", "POST /v1/tokens/known/refresh HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "400"},
		{"any host", "GET /v1/tokens/known HTTP/1.1\r\nHost: evil.example\r\n\r\n", "200"},
		{"a whole URL", "GET http://evil.example/v1/tokens/known HTTP/1.1\r\n" + host + "\r\n", "200"},
		{"a path with dots", "GET /v1/status/../tokens/known HTTP/1.1\r\n" + host + "\r\n", "307"},
		{"HTTP/2 by prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			conn, err := net.Dial("unix", file.Path)
			mustDo(t, err)
			defer conn.Close()
			mustDo(t, conn.SetDeadline(time.Now().Add(endless)))
			go func() { _, _ = io.WriteString(conn, test.request) }() // it may be answered before its end
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "HTTP/1.1 "+test.want+" ") {
				t.Errorf("the answer is %q, %v; want %s", line, err, test.want)
			}
			response, err := overSocket(file.Path).Get("http://credagent/v1/tokens/known")
			mustDo(t, err)
			defer response.Body.Close()
			if response.StatusCode != http.StatusOK {
				t.Errorf("afterwards a good request gets %d", response.StatusCode)
			}
		})
	}
}

// patient is a broker whose refreshes take until they are let go.
type patient struct {
	tokens
	begun, end chan struct{}
}

func (b *patient) Refresh(ctx context.Context, token string) (status.Refresh, error) {
	b.begun <- struct{}{}
	select {
	case <-b.end:
		return b.tokens.Refresh(ctx, token)
	case <-ctx.Done():
		return status.Refresh{}, ctx.Err()
	}
}

// TestAUserCannotTakeAllConnections: one user's silent connections make room for its own new ones,
// and not for another user's, who waits just as silently.
func TestAUserCannotTakeAllConnections(t *testing.T) {
	file := SocketFile{Path: filepath.Join(peertest.Dir(t), "socket"), Mode: 0o660, Group: "62100"}
	cmd := peertest.Command(t, peertest.Identity{UID: allowedUser, GID: 62100}, "POST", "/v1/tokens/known/refresh")
	broker := &patient{begun: make(chan struct{}, 1), end: make(chan struct{})}
	serveLocal(t, file, broker)
	cmd.Env = append(os.Environ(), askVariable+"="+file.Path)
	var out strings.Builder
	cmd.Stdout = &out
	mustDo(t, cmd.Start())
	<-broker.begun
	silent := make([]net.Conn, 4*mostOfOne)
	for i := range silent {
		conn, err := net.Dial("unix", file.Path)
		mustDo(t, err)
		defer conn.Close()
		silent[i] = conn
	}
	last := len(silent) - mostOfOne // all before it, and it, had to make room
	mustDo(t, silent[last].SetReadDeadline(time.Now().Add(endless)))
	if _, err := silent[last].Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("the socket holds more than %d connections: %v", mostOfOne, err)
	}
	close(broker.end)
	mustDo(t, cmd.Wait())
	if out.String() != "200\n" {
		t.Errorf("the other user got %q", &out)
	}
}

// TestADefaultACLLetsNobodyConnect: what the directory gives to new files is taken away.
func TestADefaultACLLetsNobodyConnect(t *testing.T) {
	const entry = 8
	dir := peertest.Dir(t)
	acl := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{0x01, 7, 1<<32 - 1}, {0x02, 7, strangeUser}, {0x04, 7, 1<<32 - 1}, {0x08, 7, strangeGroup}, {0x10, 7, 1<<32 - 1}, {0x20, 0, 1<<32 - 1}} {
		acl = binary.LittleEndian.AppendUint16(acl, e.tag)
		acl = binary.LittleEndian.AppendUint16(acl, e.perm)
		acl = binary.LittleEndian.AppendUint32(acl, e.id)
	}
	if len(acl) != 4+6*entry {
		t.Fatal(len(acl))
	}
	if err := unix.Setxattr(dir, "system.posix_acl_default", acl, 0); err != nil {
		t.Skipf("this file system has no ACLs: %v", err)
	}
	probe := filepath.Join(dir, "probe")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Getxattr(probe, "system.posix_acl_access", nil); err != nil {
		t.Fatalf("the directory gives no ACL: %v", err)
	}
	for _, mode := range []fs.FileMode{0o600, 0o660, 0o666} {
		file := SocketFile{Path: filepath.Join(dir, "socket"), Mode: mode}
		listener, err := file.Listen(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Getxattr(file.Path, "system.posix_acl_access", nil); !errors.Is(err, unix.ENODATA) {
			t.Errorf("mode %04o: its ACL: %v", mode, err)
		}
		if info, err := os.Lstat(file.Path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("mode %04o: %v, %v", mode, info, err)
		}
		listener.Close()
	}
}
