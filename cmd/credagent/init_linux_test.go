package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/testkit/oidctest"
)

// openTTY returns both ends of a pseudo-terminal.
func openTTY(t *testing.T) (near, far *os.File) {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	fd := int(near.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	far, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	return near, far
}

// TestInitIsInterrupted presses Ctrl-C at a question: nothing is made, and the terminal echoes again.
func TestInitIsInterrupted(t *testing.T) {
	for _, c := range []struct{ name, answers, at string }{
		{"at the first question", "", "Server [entra]: "},
		{"at one without a usual answer", "generic\n", "Issuer [needed]: "},
		{"at the confirmation", "generic\nhttps://login.example.com\napp\ncertificate\n\n\n", "Go on [yes]: "},
		{"at the secret", "generic\nhttps://login.example.com\napp\nsecret\n\n\nyes\n", "it is not shown: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			near, far := openTTY(t)
			dir := t.TempDir()
			before, err := unix.IoctlGetTermios(int(far.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "init", "--user", me(t), "--dir", dir+"/etc", "--file", dir+"/run/app.token")
			cmd.Env = append(os.Environ(), selfVariable+"=1")
			cmd.Stdin = far
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			said, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(near, c.answers); err != nil {
				t.Fatal(err)
			}
			readUntil(t, said, c.at)
			if _, err := io.WriteString(near, "\x03"); err != nil {
				t.Fatal(err)
			}
			rest, _ := io.ReadAll(said)
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != exitUsage || !bytes.Contains(rest, []byte("nothing was made")) {
				t.Errorf("it exits with %d and says %q", code, rest)
			}
			if left := tree(t, dir); len(left) != 0 {
				t.Errorf("it leaves %v", left)
			}
			after, err := unix.IoctlGetTermios(int(far.Fd()), unix.TCGETS)
			if err != nil || after.Lflag != before.Lflag {
				t.Errorf("the terminal is left with the modes %x, want %x: %v", after.Lflag, before.Lflag, err)
			}
		})
	}
}

func me(t *testing.T) string {
	t.Helper()
	current, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return current.Username
}

func readUntil(t *testing.T, in io.Reader, text string) {
	t.Helper()
	var seen []byte
	for one := make([]byte, 1); !bytes.HasSuffix(seen, []byte(text)); {
		if _, err := in.Read(one); err != nil {
			t.Fatalf("it ends before it says %q: %q", text, seen)
		}
		seen = append(seen, one[0])
	}
}

// tree is every file below a directory, with what would change if it were touched.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := entry.Info()
		all = append(all, fmt.Sprint(path, info.Mode(), info.ModTime(), info.Size()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// initial runs init in a directory of its own and returns that.
func initial(t *testing.T, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	again(t, dir, args...)
	before := tree(t, dir)
	again(t, dir, args...)
	if after := tree(t, dir); strings.Join(after, "\n") != strings.Join(before, "\n") {
		t.Errorf("run again, it changes\n%s\nto\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	return dir
}

func again(t *testing.T, dir string, args ...string) {
	t.Helper()
	var out, problems bytes.Buffer
	args = append([]string{"init"}, args...)
	args = append(args, "--user", me(t), "--dir", dir+"/etc", "--file", dir+"/run/app.token")
	if code := runSelf(t, &out, &problems, args...); code != exitOK {
		t.Fatalf("%v exits with %d\n%s%s", args, code, &out, &problems)
	}
}

func certificateIn(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// firstToken has the initial configuration get its token.
func firstToken(t *testing.T, dir string) string {
	t.Helper()
	var problems bytes.Buffer
	if code := runSelf(t, io.Discard, &problems, "once", "-c", dir+"/etc/credagent.yaml", "--timeout", "20s"); code != exitOK {
		t.Fatalf("once exits with %d\n%s", code, &problems)
	}
	text, err := os.ReadFile(dir + "/run/app.token")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestInitForServers goes from flags to a token's file, at the embedded server in each server's manner.
func TestInitForServers(t *testing.T) {
	for _, c := range []struct {
		server, path string // where the issuer is at the server; %s is its URL
		tls          bool
		flags        []string
	}{
		{"entra", "", true, []string{"--tenant", "contoso.onmicrosoft.com"}},
		{"keycloak", "/realms/shop", false, nil},
		{"okta", "/oauth2/default", false, []string{"--scope", "orders.read"}},
		{"auth0", "/", false, []string{"--audience", "https://api.example.com"}},
		{"ping", "/5c2f9d52/as", false, []string{"--scope", "orders:read"}},
		{"adfs", "/adfs", false, []string{"--audience", "https://api.example.com"}},
		{"generic", "", false, []string{"--credential", "certificate", "--scope", "orders.read"}},
	} {
		t.Run(c.server, func(t *testing.T) {
			manner := c.server
			if manner == "generic" {
				manner = ""
			}
			server, err := devserver.New(devserver.Options{TLS: c.tls, TTL: time.Hour, Manner: manner})
			if err != nil {
				t.Fatal(err)
			}
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.Close() })
			flags := append([]string{c.server, "--client-id", "6731de76", "--issuer", server.URL() + c.path}, c.flags...)
			if c.tls {
				ca := filepath.Join(t.TempDir(), "ca.pem")
				if err := os.WriteFile(ca, server.CAPEM(), 0o644); err != nil {
					t.Fatal(err)
				}
				flags = append(flags, "--ca-file", ca)
			}
			dir := initial(t, flags...)
			client := devserver.Client{ID: "6731de76", Certificates: []*x509.Certificate{certificateIn(t, dir+"/etc/"+c.server+".pem")}}
			if c.server == "okta" || c.server == "ping" {
				client = devserver.Client{ID: client.ID, PublicKeys: map[string]crypto.PublicKey{"credagent-app": client.Certificates[0].PublicKey}}
			}
			server.SetClient(client)
			if !server.Valid(firstToken(t, dir)) {
				t.Error("what is in the file is no token of the server")
			}
		})
	}
}

// TestInitForSecrets is the same for the servers that know clients by a secret alone.
func TestInitForSecrets(t *testing.T) {
	for server, flags := range map[string][]string{"cognito": {"--scope", "orders/read"}, "salesforce": nil, "keycloak": {"--credential", "secret"}} {
		t.Run(server, func(t *testing.T) {
			running, err := devserver.New(devserver.Options{TTL: time.Hour, Manner: server, Clients: []devserver.Client{{ID: "app", Secret: secret.New(canary)}}})
			if err != nil {
				t.Fatal(err)
			}
			if err := running.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = running.Close() })
			issuer := running.Issuer()
			dir := t.TempDir()
			args := append([]string{"init", server, "--client-id", "app", "--issuer", issuer, "--user", me(t), "--dir", dir + "/etc", "--file", dir + "/run/app.token"}, flags...)
			cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
			cmd.Env = append(os.Environ(), selfVariable+"=1")
			cmd.Stdin = strings.NewReader(canary + "\n")
			if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte(canary)) {
				t.Fatalf("init: %v\n%s", err, out)
			}
			if !running.Valid(firstToken(t, dir)) {
				t.Error("what is in the file is no token of the server")
			}
		})
	}
}

// TestInitForCertifiedServer is the same at somebody else's server.
func TestInitForCertifiedServer(t *testing.T) {
	dir := t.TempDir()
	// The certificate comes first: the server is told of its clients when it starts.
	again(t, dir, "generic", "--client-id", "fresh", "--credential", "certificate", "--issuer", "https://login.example.com", "--scope", "read")
	key := certificateIn(t, dir+"/etc/generic.pem").PublicKey
	server := oidctest.Start(t, []oidctest.Client{oidctest.PrivateKeyJWT("fresh", "PS256", key)}, oidctest.WithScopes("read"))
	if err := os.Remove(dir + "/etc/credagent.yaml"); err != nil {
		t.Fatal(err)
	}
	again(t, dir, "generic", "--client-id", "fresh", "--credential", "certificate", "--issuer", server.Issuer, "--scope", "read", "--ca-file", server.CAFile)
	if firstToken(t, dir) == "" {
		t.Error("the token's file is empty")
	}
}
