//go:build linux

package resilience_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/sink"
	"github.com/credagent/credagent/token"
)

// writerRole makes the test binary a process that writes one file and ends. Its value is a writer
// as JSON.
const writerRole = "RESILIENCE_TEST_WRITER"

// The contents that the file has, one after another.
const (
	oldContent = "the-old-token"
	newContent = "the-new-token-of-another-length"
)

// init keeps the one write on the process's first thread, which is the one that strace follows.
func init() {
	if os.Getenv(writerRole) != "" {
		runtime.LockOSThread()
	}
}

// writer writes one file in the way that the agent does: a sink, or a token's state.
type writer struct {
	Kind    string // sink or state
	Dir     string
	KeyFile string
	Owned   bool // by somebody else, and with a reader more
	Content string
}

func writeOnce(role string) int {
	var w writer
	err := json.Unmarshal([]byte(role), &w)
	if err == nil {
		err = w.write()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (w writer) write() error {
	t := token.Token{Name: "graph", AccessToken: secret.New(w.Content), TokenType: "Bearer", Expiry: time.Now().Add(time.Hour)}
	if w.Kind == "state" {
		opened, err := store.Open(w.Dir, w.KeyFile)
		if err != nil {
			return err
		}
		return opened.Save("graph", store.Record{Token: t})
	}
	options := sink.Options{Path: w.path(), Mode: 0o640, Renderer: sink.Raw("graph")}
	if w.Owned {
		options.Owner, options.Group, options.Readers = "4001", "4002", []sink.Principal{{User: "4003"}}
	}
	f, err := sink.New(options)
	if err != nil {
		return err
	}
	_, err = f.Write(func(string) (token.Token, bool) { return t, true })
	return err
}

func (w writer) path() string {
	if w.Kind == "state" {
		return filepath.Join(w.Dir, "graph.age")
	}
	return filepath.Join(w.Dir, "graph.token")
}

// with is the same file with another content.
func (w writer) with(content string) writer {
	w.Content = content
	return w
}

// holds returns what a reader finds: "" for no file, or an error for anything that is not whole.
func (w writer) holds() (string, error) {
	if w.Kind == "state" {
		opened, err := store.Open(w.Dir, w.KeyFile)
		if err != nil {
			return "", err
		}
		r, err := opened.Load("graph")
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return r.Token.AccessToken.Reveal(), err
	}
	content, err := os.ReadFile(w.path())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(content), err
}

// attributes is the mode and the owner that the file is to have.
func (w writer) attributes() string {
	switch {
	case w.Kind == "state":
		return fmt.Sprintf("-rw------- %d:%d", os.Geteuid(), os.Getegid())
	case w.Owned:
		return "-rw-r----- 4001:4002"
	default:
		return fmt.Sprintf("-rw-r----- %d:%d", os.Geteuid(), os.Getegid())
	}
}

func attributesOf(path string) (attributes string, size int64, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", 0, err
	}
	owner := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%s %d:%d", info.Mode(), owner.Uid, owner.Gid), info.Size(), nil
}

// traced are the system calls by which files come and go. Which of them the writer makes, strace
// tells.
const traced = "openat,newfstatat,fstat,fcntl,read,pread64,getdents64,lseek,write,pwrite64,ftruncate,fchmod,fchmodat,fchown,fchownat," +
	"fgetxattr,fsetxattr,fremovexattr,fsync,fdatasync,utimensat,close,renameat,renameat2,linkat,unlinkat,mkdirat"

// call is a system call that the writer made.
type call struct {
	name    string
	ordinal int // among those of the same name
	text    string
}

var callPattern = regexp.MustCompile(`^(\w+)\(.* = \S+`)

// trace runs the writer under strace, which may do something to one of its calls, and returns the
// calls from the first one that names its directory.
func (w writer) trace(t *testing.T, inject ...string) (calls []call, ended *os.ProcessState) {
	t.Helper()
	role, err := json.Marshal(w)
	must(t, err)
	log := filepath.Join(t.TempDir(), "strace")
	args := []string{"-o", log, "-y", "-s", "200", "-e", "signal=none", "-e", "trace=" + traced}
	for _, what := range inject {
		args = append(args, "-e", "inject="+what)
	}
	cmd := exec.Command("strace", append(args, os.Args[0])...)
	cmd.Env = append(os.Environ(), writerRole+"="+string(role))
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("running strace: %v\n%s", err, out)
	}
	text, err := os.ReadFile(log)
	must(t, err)
	seen, begun := map[string]int{}, false
	for line := range bytes.Lines(text) {
		match := callPattern.FindStringSubmatch(string(line))
		if match == nil {
			continue
		}
		seen[match[1]]++
		if begun = begun || strings.Contains(string(line), w.Dir); begun {
			calls = append(calls, call{match[1], seen[match[1]], string(line)})
		}
	}
	if len(calls) == 0 && len(inject) == 0 { // else the writer may have been killed before it came there
		t.Fatalf("strace saw nothing of %s:\n%s", w.Dir, out)
	}
	return calls, cmd.ProcessState
}

func needStrace(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed (apt-get install strace): that no power cut tears a file is NOT shown here")
	}
}

// writing is a file that is to be written, and what is there before.
type writing struct {
	writer
	before string // "" for no file
}

// reset makes the file what it is before.
func (w writing) reset(t *testing.T) {
	t.Helper()
	must(t, os.RemoveAll(w.path()))
	if w.before != "" {
		must(t, w.with(w.before).write())
	}
}

// writings are the files that the agent writes.
func writings(t *testing.T) map[string]writing {
	t.Helper()
	key, err := store.NewKey(time.Now())
	must(t, err)
	keyFile := filepath.Join(t.TempDir(), "state-key")
	must(t, os.WriteFile(keyFile, []byte(key.Reveal()), 0o600))
	made := map[string]writing{}
	for name, w := range map[string]writing{
		"a sink that is there":   {writer{Kind: "sink", Owned: os.Geteuid() == 0}, oldContent},
		"a sink that is not yet": {writer{Kind: "sink", Owned: os.Geteuid() == 0}, ""},
		"the state of a token":   {writer{Kind: "state"}, oldContent},
		"the state of a new one": {writer{Kind: "state"}, ""},
	} {
		w.Dir, w.KeyFile = filepath.Join(t.TempDir(), w.Kind), keyFile
		must(t, os.Mkdir(w.Dir, 0o700))
		made[name] = w
	}
	return made
}

// TestPowerCut kills the writer before each of its system calls in turn, and checks from the order
// of the calls that a machine without power would come up with the old or the new file too.
func TestPowerCut(t *testing.T) {
	needStrace(t)
	for name, tc := range writings(t) {
		t.Run(name, func(t *testing.T) {
			tc.reset(t)
			calls, ended := tc.with(newContent).trace(t)
			if !ended.Success() {
				t.Fatalf("the writer fails: %s", ended)
			}
			checkOrder(t, tc.writer, calls)
			found := map[string]int{}
			for _, c := range calls {
				tc.reset(t)
				_, ended := tc.with(newContent).trace(t, fmt.Sprintf("%s:signal=SIGKILL:when=%d", c.name, c.ordinal))
				if ended.Success() {
					t.Errorf("the writer outlived the kill before %s", c.text)
				}
				found[checkCut(t, tc.writer, tc.before, c)]++
				if t.Failed() {
					return
				}
			}
			t.Logf("%d crash points: the old content after %d, the new one after %d", len(calls), found[tc.before], found[newContent])
			if found[tc.before] == 0 || found[newContent] == 0 {
				t.Error("one of the contents was never found")
			}
		})
	}
}

// checkCut checks what a kill before a call left, and that the next write cleans up.
func checkCut(t *testing.T, w writer, before string, c call) (found string) {
	t.Helper()
	left := temporaries(t, w.Dir)
	if len(left) > 1 {
		t.Errorf("killed before %s: %d temporary files", c.text, len(left))
	}
	for _, path := range left {
		if got, size, err := attributesOf(path); err != nil || size > 0 && got != w.attributes() {
			t.Errorf("killed before %s: the temporary has %d bytes and is %s, %v", c.text, size, got, err)
		}
	}
	found, err := w.holds()
	if err != nil || found != before && found != newContent {
		t.Errorf("killed before %s: the file holds %q, %v", c.text, found, err)
	}
	if got, _, err := attributesOf(w.path()); err == nil && got != w.attributes() {
		t.Errorf("killed before %s: the file is %s, want %s", c.text, got, w.attributes())
	}
	must(t, w.with("the-next-token").write())
	next, err := w.holds()
	if left := temporaries(t, w.Dir); err != nil || next != "the-next-token" || len(left) > 0 {
		t.Errorf("killed before %s: the next write leaves %q and %v, %v", c.text, next, left, err)
	}
	return found
}

// checkOrder checks that the content is on the disk before the file takes its name, and the name
// before the write is said to be done. Between two syncs a file system may do things in any order.
func checkOrder(t *testing.T, w writer, calls []call) {
	t.Helper()
	at := func(name string, parts ...string) int {
		return slices.IndexFunc(calls, func(c call) bool { return c.name == name && containsAll(c.text, parts) })
	}
	temporary := w.Dir + "/.credagent-"
	created, given := at("openat", `".credagent-`, "O_CREAT", "O_EXCL", "O_NOFOLLOW", "0600"), at("fchmod", temporary)
	written, synced := at("write", temporary), at("fsync", temporary, "= 0")
	renamed, named := at("renameat", `".credagent-`, filepath.Base(w.path()), "= 0"), at("fsync", "<"+w.Dir+">)", "= 0")
	order := []int{created, given, written, synced, renamed, named}
	if created < 0 || !slices.IsSorted(order) || len(slices.Compact(order)) != len(order) {
		t.Errorf("creating, mode, write, sync, rename and sync of the directory are calls %v of\n%s", order, texts(calls))
	}
	for i, c := range calls {
		if i > synced && (c.name == "write" || c.name == "pwrite64" || c.name == "ftruncate") && strings.Contains(c.text, w.Dir) {
			t.Errorf("it is written to after it was synced: %s", c.text)
		}
	}
}

func texts(calls []call) string {
	var all strings.Builder
	for _, c := range calls {
		all.WriteString(c.text)
	}
	return all.String()
}

// TestDiskErrors has the disk fail one system call of a write.
func TestDiskErrors(t *testing.T) {
	needStrace(t)
	for name, tc := range writings(t) {
		for _, fails := range []string{"openat", "fchmod", "write", "fsync", "renameat"} {
			t.Run(name+"/"+fails, func(t *testing.T) {
				tc.reset(t)
				calls, _ := tc.with(newContent).trace(t)
				i := slices.IndexFunc(calls, func(c call) bool { return c.name == fails && strings.Contains(c.text, ".credagent-") })
				if i < 0 {
					t.Fatalf("there is no such call in\n%s", texts(calls))
				}
				tc.reset(t)
				_, ended := tc.with(newContent).trace(t, fmt.Sprintf("%s:error=EIO:when=%d", fails, calls[i].ordinal))
				found, err := tc.holds()
				if ended.Success() || found != tc.before || err != nil {
					t.Errorf("the writer says %s, the file holds %q, %v", ended, found, err)
				}
				if left := temporaries(t, tc.Dir); len(left) > 0 {
					t.Errorf("temporary files are left: %v", left)
				}
			})
		}
	}
}
