package delivery

import (
	"strings"
	"sync"

	"github.com/credagent/credagent/internal/printable"
)

const (
	tailBytes = 16 << 10 // of a command's output that are kept
	tailLines = 10       // of it that are shown
	tailLine  = 300      // bytes of a line that are shown
)

// tail keeps the end of what is written to it, where programs report errors.
type tail struct {
	mu   sync.Mutex
	data []byte // guarded by mu, as is cut
	cut  bool   // something was dropped before data
}

// Write implements [io.Writer]. It accepts everything.
func (t *tail) Write(data []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, data[max(0, len(data)-tailBytes):]...)
	if over := len(t.data) - tailBytes; over > 0 || len(data) > tailBytes {
		t.data, t.cut = append(t.data[:0], t.data[max(over, 0):]...), true
	}
	return len(data), nil
}

// text returns the last lines after clean, without control characters.
func (t *tail) text(clean func(string) string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(clean(string(t.data))), "\n")
	if t.cut {
		lines = lines[1:] // its beginning is missing, so clean cannot recognize a token in it
	}
	lines = lines[max(0, len(lines)-tailLines):]
	for i, line := range lines {
		lines[i] = printable.Text(strings.TrimRight(line, "\r"), tailLine)
	}
	return strings.Join(lines, "\n")
}
