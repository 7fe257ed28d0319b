package demo

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/credagent/credagent/agent/status"
)

// observer describes what changes between two checks of the agent's status. It is not safe for concurrent use.
type observer struct {
	acquired map[string]time.Time // by token
	failed   map[string]time.Time // by token
	written  map[string]time.Time // by sink
	tokens   map[string]int       // how many of each were seen
	writes   map[string]int       // by sink's file name
}

func newObserver() *observer {
	return &observer{
		acquired: map[string]time.Time{}, failed: map[string]time.Time{}, written: map[string]time.Time{},
		tokens: map[string]int{}, writes: map[string]int{},
	}
}

// changes returns what is new, a line each.
func (o *observer) changes(s status.Status) []string {
	var lines []string
	for _, t := range s.Tokens {
		if moved(o.acquired, t.Name, t.AcquiredAt) {
			o.tokens[t.Name]++
			lines = append(lines, o.received(s.Now, t))
		}
		if moved(o.failed, t.Name, t.LastErrorAt) && t.LastError != "" {
			lines = append(lines, refused(s, t))
		}
	}
	for _, k := range s.Sinks {
		name := filepath.Base(k.Path)
		if !moved(o.written, k.Path, k.LastSuccess) {
			continue
		}
		o.writes[name]++
		if o.writes[name] == 1 {
			lines = append(lines, "file "+name+" written for the first time")
		}
	}
	return lines
}

// moved reports whether an instant has changed since the last check.
func moved(known map[string]time.Time, key string, at *time.Time) bool {
	if at == nil || known[key].Equal(*at) {
		return false
	}
	known[key] = *at
	return true
}

func (o *observer) received(now time.Time, t status.Token) string {
	event := "refreshed"
	if o.tokens[t.Name] == 1 {
		event = "acquired"
	}
	return fmt.Sprintf("token %s %s (#%d), expires in %s", t.Name, event, o.tokens[t.Name], left(now, instant(t.Expiry)))
}

// refused describes how a request failed and what follows from it.
func refused(s status.Status, t status.Token) string {
	return fmt.Sprintf("token %s not refreshed: %s; next request in %s, the old token is good for %s",
		t.Name, t.LastError, left(s.Now, nextRequest(s, t)), left(s.Now, instant(t.Expiry)))
}

// left is the time until an instant, to a tenth of a second.
func left(now, until time.Time) string {
	return fmt.Sprintf("%.1fs", max(0, until.Sub(now).Seconds()))
}

// tailKeeps is how many of the agent's log lines are kept for the end.
const tailKeeps = 12

// tail keeps the last lines written to it.
type tail struct {
	mu    sync.Mutex
	lines [][]byte // guarded by mu
}

// Write implements [io.Writer] for a [log/slog.Handler], which writes whole lines.
func (t *tail) Write(line []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, bytes.Clone(line))
	t.lines = t.lines[max(0, len(t.lines)-tailKeeps):]
	return len(line), nil
}

// String returns the lines.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var text strings.Builder
	for _, line := range t.lines {
		text.Write(line)
	}
	return text.String()
}
