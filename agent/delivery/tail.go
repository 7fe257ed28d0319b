package delivery

import (
	"github.com/credagent/credagent/internal/printable"
	"strings"
	"sync"

)

const (
	tailBytes = 16 << 10 // that are kept of what a command prints
	tailLines = 10       // that are shown of it
	tailLine  = 300      // bytes that are shown of a line
)

// tail keeps the end of what is written to it, where programs say what went wrong.
type tail struct {
	mu   sync.Mutex
	data []byte // guarded by mu, as is cut
	cut  bool   // something was dropped before data
}

// Write implements [io.Writer]. It takes everything.
func (t *tail) Write(data []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, data[max(0, len(data)-tailBytes):]...)
	if over := len(t.data) - tailBytes; over > 0 || len(data) > tailBytes {
		t.data, t.cut = append(t.data[:0], t.data[max(over, 0):]...), true
	}
	return len(data), nil
}

// text returns the last lines, without control characters and what clean takes out.
func (t *tail) text(clean func(string) string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(clean(string(t.data))), "\n")
	if t.cut {
		lines = lines[1:] // its beginning is missing, and with it what clean knows a token by
	}
	lines = lines[max(0, len(lines)-tailLines):]
	for i, line := range lines {
		lines[i] = printable.Text(strings.TrimRight(line, "\r"), tailLine)
	}
	return strings.Join(lines, "\n")
}
