package canary

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMemory looks for every client's credential, and for what was made of it, in the memory of the
// agent: before the first request, while requests wait for their answer, after it, after a server
// repeated a request in its error, and after a rotation. It finds none. In the providers'
// memory it finds them all, so it is known to see.
func TestMemory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("looking into the memory of a provider needs root")
	}
	w := newWorld(t, 12*time.Second)
	w.front.holdUp(forMetadata)
	w.front.holdUp(forToken)
	a := w.run()

	w.await("every client asks for metadata", func() bool { return w.front.held(forMetadata) == len(clients) })
	a.mustNotHold("before the first request")

	w.front.release(forMetadata)
	w.await("every request waits for its answer", func() bool { return w.front.held(forToken) == len(clients) })
	a.mustNotHold("while requests wait for their answer")
	a.providersMustHold()

	w.front.release(forToken)
	w.await("every token is there", w.ready)
	a.mustNotHold("after the answers")
	a.providersMustHaveWiped()

	w.front.repeating(true)
	w.await("the server has repeated every request", func() bool { return allOf(func(name string) bool { return w.front.answers(name) >= 2 }) })
	w.await("the agent has read that", func() bool { return strings.Count(a.Log.String(), "class=credential") >= len(clients) })
	a.mustNotHold("after the server repeated the requests")

	w.front.repeating(false)
	w.rotate()
	w.await("the new credentials are used", func() bool { return allOf(func(name string) bool { return w.front.answers(name) >= 3 }) })
	w.await("every token is there again", w.ready)
	a.mustNotHold("after a rotation")
	if found := Find([]byte(a.Log.String()), w.all()...); len(found) != 0 {
		t.Errorf("in the log: %q", found)
	}
}

func allOf(so func(client string) bool) bool {
	return !slices.ContainsFunc(clients, func(name string) bool { return !so(name) })
}

// mustNotHold checks that nothing secret is in the agent's memory. The tokens are: they are its own.
func (a *agent) mustNotHold(when string) {
	a.w.t.Helper()
	all, tokens := a.w.all(), a.w.front.secrets("token")
	m := memoryOf(a.w.t, a.PID(), true)
	if found := m.find(all); len(found) != 0 {
		a.w.t.Errorf("%s, in the agent's memory: %q", when, found)
	}
	if seen := m.find(tokens); (len(seen) == 0) != (len(tokens) == 0) {
		a.w.t.Errorf("%s, of the tokens the search sees only %q", when, seen)
	}
	a.w.t.Logf("%s: %d secrets looked for in %s", when, len(all), m)
}

// providersMustHold checks that each provider has its clients' credentials in memory, in the forms in
// which they are used just then, and nobody else's. Those at one server with the same provider share it.
func (a *agent) providersMustHold() {
	a.w.t.Helper()
	for client, want := range map[string][]string{
		byPost:  {"secret of post, as it is", "secret of post, in a form"},
		byBasic: {"secret of basic, as it is", "header of basic, as it is"},
		byRSA:   {"signature of rsa, as it is", "key of rsa, prime, backwards"},
		byEC:    {"signature of ec, as it is", "key of ec, scalar"},
		byEd:    {"signature of ed, as it is", "key of ed, seed"},
		byJWT:   {"signature of jwt, as it is"},
	} {
		m := memoryOf(a.w.t, a.provider(client), false)
		found := m.find(a.w.own(client))
		if len(a.w.own(client)) == 0 {
			a.w.t.Errorf("nothing of %s is looked for", client)
		}
		for _, form := range want {
			if !slices.Contains(found, form) {
				a.w.t.Errorf("in the memory of the provider of %s there is only %q, not %q", client, found, form)
			}
		}
		for _, other := range clients {
			if seen := m.find(a.w.own(other)); providers[other] != providers[client] && len(seen) != 0 {
				a.w.t.Errorf("in the memory of the provider of %s there is %q", client, seen)
			}
		}
		a.w.t.Logf("the provider of %s: %q in %s", client, found, m)
	}
}

// providersMustHaveWiped checks that of a key's file nothing is left as it was.
func (a *agent) providersMustHaveWiped() {
	a.w.t.Helper()
	for _, client := range []string{byRSA, byEC, byEd} {
		for _, hit := range memoryOf(a.w.t, a.provider(client), false).find(a.w.own(client)) {
			if strings.Contains(hit, "PEM") || strings.Contains(hit, "DER") {
				a.w.t.Errorf("in the memory of the provider of %s there is still %s", client, hit)
			}
		}
	}
}

// providers are the clients' providers.
var providers = map[string]string{
	byPost: "secretcred", byBasic: "secretcred", byRSA: "certcred", byEC: "certcred", byEd: "certcred", byJWT: "jwtcred",
}

// provider is the number of a client's provider's process, the last one that was started.
func (a *agent) provider(client string) int {
	a.w.t.Helper()
	started := regexp.MustCompile(`msg="provider started" provider=` + providers[client] + ` pid=(\d+)`)
	all := started.FindAllStringSubmatch(a.Log.String(), -1)
	if len(all) == 0 {
		a.w.t.Fatalf("no provider of %s was started", client)
	}
	pid, _ := strconv.Atoi(all[len(all)-1][1])
	return pid
}

// memory is what a process has in memory at one instant, but for pages that are all zero.
type memory [][]byte

// memoryOf stops a process, reads all its memory that can be read, and lets it go on. The pages of its
// program, to which nobody writes, are most of that and may be left out.
func memoryOf(t *testing.T, pid int, programToo bool) memory {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var m memory
	for line := range strings.Lines(string(maps)) {
		if programToo || strings.Contains(line, " rw") || !strings.Contains(line, program) {
			m = append(m, readable(t, file, strings.TrimSpace(line))...)
		}
	}
	if m.size() < 1<<20 {
		t.Fatalf("process %d has only %d bytes of memory", pid, m.size())
	}
	return m
}

func (m memory) size() int {
	size := 0
	for _, stretch := range m {
		size += len(stretch)
	}
	return size
}

func (m memory) find(secrets []Secret) []string {
	var found []string
	for _, stretch := range m {
		found = append(found, Find(stretch, secrets...)...)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// String is how much it is.
func (m memory) String() string { return fmt.Sprintf("%.1f MiB", float64(m.size())/(1<<20)) }

// readable reads one mapping, given as a line of maps, and leaves out the pages that are all zero:
// Go reserves far more than it uses.
func readable(t *testing.T, file io.ReaderAt, mapping string) [][]byte {
	t.Helper()
	var from, to uint64
	var mode string
	if _, err := fmt.Sscanf(mapping, "%x-%x %s", &from, &to, &mode); err != nil {
		t.Fatalf("reading %q: %v", mapping, err)
	}
	if mode[0] != 'r' || strings.HasSuffix(mapping, "[vvar]") || strings.HasSuffix(mapping, "[vvar_vclock]") || strings.HasSuffix(mapping, "[vsyscall]") {
		return nil
	}
	const page = 4096
	var all [][]byte
	var stretch []byte
	zeros, buffer := make([]byte, page), make([]byte, page)
	for at := from; at < to; at += page {
		if _, err := file.ReadAt(buffer, int64(at)); err != nil {
			t.Fatalf("reading %q at %x: %v", mapping, at, err)
		}
		if bytes.Equal(buffer, zeros) {
			all, stretch = append(all, stretch), nil
			continue
		}
		stretch = append(stretch, buffer...)
	}
	return slices.DeleteFunc(append(all, stretch), func(s []byte) bool { return len(s) == 0 })
}
