package process

import (
	"bytes"
	"sync"

	"github.com/credagent/credagent/internal/printable"
)

const (
	maxLine  = 500 // bytes of a line that are kept
	maxLines = 100 // lines of one process that are handed on
)

// LineLog takes what a process prints and hands it on line by line, up to a bound: one that prints
// without end costs neither memory nor disk.
type LineLog struct {
	Line func(line string) // for every line, one after another
	Full func(lines int)   // once, when the bound is reached

	mu     sync.Mutex
	line   []byte // guarded by mu, as is lines
	lines  int
	filled bool // the bound was reached and reported
}

// Write implements io.Writer. It takes everything.
func (l *LineLog) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := data; len(rest) > 0 && !l.filled; {
		part, after, found := bytes.Cut(rest, []byte("\n"))
		room := min(max(maxLine-len(l.line), 0), len(part))
		l.line = append(l.line, part[:room]...)
		rest = after
		if found {
			l.flush()
		}
	}
	return len(data), nil
}

// Finish hands on a last line that no line break ended.
func (l *LineLog) Finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line) > 0 && !l.filled {
		l.flush()
	}
}

func (l *LineLog) flush() {
	if l.lines++; l.lines > maxLines {
		l.filled = true
		l.Full(maxLines)
		return
	}
	l.Line(printable.Text(string(l.line), maxLine))
	l.line = l.line[:0]
}
