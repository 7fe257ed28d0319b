package workswith_test

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestPostgreSQL logs in with psql, whose libpq finds the token in the password file. The server's
// part of an identity provider is played by the test: it gives the user each new token as the
// password, with SCRAM.
func TestPostgreSQL(t *testing.T) {
	needs(t, "postgresql postgresql-client", "psql")
	s := newStage(t, "postgresql", life)
	db := startDatabase(s)
	s.start("app.pgpass")
	passed := map[string]bool{}
	s.until("psql has logged in with a second token", func() bool {
		content := s.read("app.pgpass")
		accessToken := strings.TrimSpace(content[strings.LastIndexByte(content, ':')+1:])
		if !s.tokens.Valid(accessToken) {
			t.Fatalf("the password is not the token")
		}
		db.run("ALTER ROLE app PASSWORD '" + accessToken + "'")
		out, err := db.logIn(s.path("app.pgpass"))
		if s.read("app.pgpass") != content {
			return false // it was replaced in between
		}
		if err != nil || out != "app\n" {
			t.Fatalf("psql: %v\n%s", err, out)
		}
		passed[accessToken] = true
		return len(passed) >= 2
	})
	open := s.write("open.pgpass", s.read("app.pgpass"))
	s.must(os.Chmod(open, 0o640))
	if out, err := db.logIn(open); err == nil || !strings.Contains(out, "group or world access") {
		t.Errorf("libpq takes a password file that others can read, which the documents deny: %v\n%s", err, out)
	}
}

// database is a PostgreSQL server on a unix socket, as its owner's to command.
type database struct {
	*stage
	dir   string
	owner *syscall.Credential // nil for who runs the test
}

// startDatabase makes and starts a server. It does not run as root, so root lends it another user.
func startDatabase(s *stage) *database {
	s.Helper()
	bin := serverPrograms(s)
	dir, err := os.MkdirTemp("", "credagent-pg-") // a test's own is closed to the server's user
	s.must(err)
	db := &database{stage: s, dir: dir}
	s.Cleanup(func() { _ = os.RemoveAll(db.dir) })
	if os.Getuid() == 0 {
		db.owner = postgres(s)
		s.must(os.Chown(db.dir, int(db.owner.Uid), int(db.owner.Gid)))
	}
	data := filepath.Join(db.dir, "data")
	if out, err := db.as(filepath.Join(bin, "initdb"), "-D", data, "-U", "owner", "-A", "trust", "--no-sync", "--locale=C").CombinedOutput(); err != nil {
		s.Fatalf("initdb: %v\n%s", err, out)
	}
	s.must(os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte("local all owner trust\nlocal all app scram-sha-256\n"), 0o600))
	s.serves(db.as(filepath.Join(bin, "postgres"), "-D", data, "-k", db.dir, "-c", "listen_addresses=", "-c", "fsync=off"))
	s.until("PostgreSQL answers", func() bool {
		return db.as("psql", "-h", db.dir, "-U", "owner", "-d", "postgres", "-c", "CREATE ROLE app LOGIN").Run() == nil
	})
	return db
}

// serverPrograms is where Debian keeps a server's programs: out of the path, by version.
func serverPrograms(s *stage) string {
	s.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	s.must(err)
	if len(found) == 0 {
		s.Skip("PostgreSQL's server is missing, so this consumer is NOT tested: apt-get install postgresql")
	}
	return filepath.Dir(found[len(found)-1])
}

func postgres(s *stage) *syscall.Credential {
	s.Helper()
	account, err := user.Lookup("postgres")
	s.must(err)
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	s.must(err)
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	s.must(err)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// as is a command of the server's owner.
func (db *database) as(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = db.dir, environment("HOME="+db.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: db.owner}
	return cmd
}

func (db *database) run(statement string) {
	db.Helper()
	cmd := db.as("psql", "-h", db.dir, "-U", "owner", "-d", "postgres", "-q", "-f", "-")
	cmd.Stdin = strings.NewReader(statement)
	if out, err := cmd.CombinedOutput(); err != nil {
		db.Fatalf("telling PostgreSQL the password: %v\n%s", err, out)
	}
}

// logIn logs in as the user of the example and asks who that is.
func (db *database) logIn(passwords string) (string, error) {
	cmd := exec.Command("psql", "-h", db.dir, "-U", "app", "-d", "postgres", "--no-password", "-Atc", "SELECT current_user")
	cmd.Dir, cmd.Env = db.stage.dir, environment("PGPASSFILE="+passwords)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
