package workswith_test

import (
	"bufio"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/credagent/credagent/testkit/agentprocess"
)

// TestMsmtp sends mail with msmtp by way of Dovecot's submission server, which asks the authorization server
// whether the token is good (RFC 7662), with both of the mechanisms that carry one.
func TestMsmtp(t *testing.T) {
	needs(t, "msmtp dovecot-submissiond", "msmtp", "dovecot")
	if os.Getuid() != 0 {
		t.Skip("Dovecot starts as root only, so this consumer is NOT tested")
	}
	for _, mechanism := range []string{"xoauth2", "oauthbearer"} {
		t.Run(mechanism, func(t *testing.T) {
			s := newStage(t, "msmtp", life)
			at := agentprocess.FreeAddress(t)
			relayed := startDovecot(s, at)
			host, port, err := net.SplitHostPort(at)
			s.must(err)
			s.names = []string{"smtp.example.com\nport 587", host + "\nport " + port}
			s.start("api.token")
			config := s.adapted("msmtprc")
			s.write("msmtprc", strings.ReplaceAll(s.read("msmtprc"), "auth xoauth2", "auth "+mechanism))
			s.until("Dovecot listens", func() bool {
				conn, err := net.Dial("tcp", at)
				return err == nil && conn.Close() == nil
			})
			sent := int64(0)
			s.presents(func() {
				cmd := exec.Command("msmtp", "-C", config, "someone@example.net")
				cmd.Env, cmd.Stdin = environment("HOME="+s.dir), strings.NewReader("Subject: test\n\ntext\n")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("msmtp: %v\n%s", err, out)
				}
				sent++
			})
			if relayed() != sent {
				t.Errorf("%d mails were sent and %d came through", sent, relayed())
			}
		})
	}
}

// startDovecot starts a submission server that takes the stage's tokens, and returns how many mails it has
// passed on.
func startDovecot(s *stage, at string) (relayed func() int64) {
	s.Helper()
	dir, err := os.MkdirTemp("", "credagent-dovecot-") // a test's own is closed to Dovecot's users
	s.must(err)
	s.Cleanup(func() { _ = os.RemoveAll(dir) })
	s.must(os.Chmod(dir, 0o755))
	owner, err := user.Lookup("dovecot")
	s.must(err)
	write := func(name, content string) {
		s.must(os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	key, err := x509.MarshalPKCS8PrivateKey(s.api.TLS.Certificates[0].PrivateKey)
	s.must(err)
	write("cert.pem", s.read("ca.pem"))
	write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	write("oauth2.ext", "introspection_mode = post\nintrospection_url = "+introspection(s)+`
username_attribute = client_id
active_attribute = active
active_value = true
`)
	host, port, err := net.SplitHostPort(at)
	s.must(err)
	relay, relayed := startRelay(s)
	relayHost, relayPort, err := net.SplitHostPort(relay)
	s.must(err)
	write("dovecot.conf", strings.NewReplacer("DIR", dir, "UID", owner.Uid, "GID", owner.Gid,
		"RELAYHOST", relayHost, "RELAYPORT", relayPort, "HOST", host, "PORT", port).Replace(dovecotConfig))
	s.serves(exec.Command("dovecot", "-F", "-c", filepath.Join(dir, "dovecot.conf")))
	return relayed
}

const dovecotConfig = `base_dir = DIR/run
state_dir = DIR/state
log_path = /dev/stderr
protocols = submission
hostname = localhost
submission_relay_host = RELAYHOST
submission_relay_port = RELAYPORT
submission_relay_ssl = no
mail_location = maildir:DIR/mail/%u
ssl = required
ssl_cert = <DIR/cert.pem
ssl_key = <DIR/key.pem
auth_mechanisms = xoauth2 oauthbearer
first_valid_uid = 1
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = DIR/oauth2.ext
}
userdb {
  driver = static
  args = uid=UID gid=GID home=DIR/mail/%u allow_all_users=yes
}
service submission-login {
  chroot =
  inet_listener submission {
    address = HOST
    port = PORT
  }
}
service stats {
  chroot =
}
`

// introspection stands before the authorization server's introspection endpoint and notes which tokens it is
// asked about.
func introspection(s *stage) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := r.PostFormValue("token")
		s.api.takes(token)
		answer, err := http.PostForm(s.tokens.URL()+"/introspect", url.Values{"token": {token}})
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.Copy(w, answer.Body)
	}))
	s.Cleanup(server.Close)
	return server.URL
}

// startRelay starts the mail server behind the submission server, as much of one as that needs, and returns its
// address and how many mails it has got.
func startRelay(s *stage) (address string, got func() int64) {
	s.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	s.Cleanup(func() { _ = listener.Close() })
	var mails atomic.Int64
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				takeMail(conn, &mails)
			}()
		}
	}()
	return listener.Addr().String(), mails.Load
}

// takeMail speaks SMTP (RFC 5321) with one client.
func takeMail(conn net.Conn, mails *atomic.Int64) {
	lines, inMail := bufio.NewScanner(conn), false
	_, _ = fmt.Fprint(conn, "220 relay ESMTP\r\n")
	for lines.Scan() {
		verb, _, _ := strings.Cut(strings.ToUpper(lines.Text()), " ")
		answer := "250 ok"
		switch {
		case inMail && lines.Text() != ".":
			continue
		case inMail:
			inMail = false
			mails.Add(1)
		case verb == "DATA":
			inMail, answer = true, "354 go on"
		case verb == "QUIT":
			answer = "221 bye"
		}
		_, _ = fmt.Fprint(conn, answer+"\r\n")
	}
}
