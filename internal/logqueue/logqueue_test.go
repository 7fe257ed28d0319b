package logqueue

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/testkit/leaktest"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Main(m)) }

// reader is who reads the log, in a state that can change.
type reader struct {
	mu   sync.Mutex
	fail error
	read bytes.Buffer
	hold chan struct{} // writes wait for it to close; nil lets them through
}

func (r *reader) Write(p []byte) (int, error) {
	r.mu.Lock()
	hold := r.hold
	r.mu.Unlock()
	if hold != nil {
		<-hold
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return 0, r.fail
	}
	return r.read.Write(p)
}

func (r *reader) set(err error, hold chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail, r.hold = err, hold
}

func (r *reader) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.read.String()
}

func notice(n int) []byte { return fmt.Appendf(nil, "dropped %d\n", n) }

func put(t *testing.T, w *Writer, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if n, err := w.Write([]byte(line + "\n")); n != len(line)+1 || err != nil {
			t.Fatalf("Write(%q): %d, %v", line, n, err)
		}
	}
}

func TestLinesAreHandedOnInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{}
		w := New(r, notice)
		put(t, w, "a", "b", "c")
		if !w.Flush(time.Second) || r.text() != "a\nb\nc\n" {
			t.Errorf("read %q", r.text())
		}
	})
}

func TestAReaderThatFailsLosesLinesAndHearsHowMany(t *testing.T) {
	for name, err := range map[string]error{
		"gone":           errors.New("broken pipe"),
		"no space":       errors.New("no space left on device"),
		"an I/O error":   errors.New("input/output error"),
		"a closed file":  os.ErrClosed,
		"a socket reset": errors.New("connection reset by peer"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &reader{fail: err}
				w := New(r, notice)
				for _, line := range []string{"a", "b", "c"} {
					put(t, w, line)
					synctest.Wait()
				}
				r.set(nil, nil)
				put(t, w, "d")
				if !w.Flush(time.Second) || r.text() != "dropped 3\nd\n" {
					t.Errorf("read %q", r.text())
				}
			})
		})
	}
}

func TestAReaderThatStopsHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{}
		goesOn := make(chan struct{})
		r.set(nil, goesOn)
		w := New(r, notice)
		line := strings.Repeat("x", 1023)
		for range 3 * maxBytes / 1024 {
			put(t, w, line)
		}
		began := time.Now()
		if w.Flush(time.Second) || time.Since(began) != time.Second {
			t.Errorf("flushing took %v", time.Since(began))
		}
		r.set(nil, nil)
		close(goesOn)
		if !w.Flush(time.Second) {
			t.Error("lines still wait although they are read")
		}
		lines := strings.Split(strings.TrimSpace(r.text()), "\n")
		kept := strings.Count(r.text(), line)
		if said := fmt.Sprintf("dropped %d", 3*maxBytes/1024-kept); kept > maxBytes/1024+1 || !strings.Contains(r.text(), said) {
			t.Errorf("%d lines, %d kept, want them to say %q", len(lines), kept, said)
		}
	})
}
