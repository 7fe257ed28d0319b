package process

import (
	"bytes"
	"sync"

	"github.com/credagent/credagent/internal/printable"
)

const (
	maxLine  = 500 // bytes of a line that are passed on
	maxLines = 100 // lines of one process that are passed on

	// maxRaw is how many bytes of a line are kept until it is cleaned: a token has up to 128 KiB, twice that in
	// hexadecimal, which is maxSecret.
	maxRaw    = 300 << 10
	maxSecret = 256 << 10
)

// LineLog passes on a process's output line by line, up to a limit: a process that prints endlessly costs neither
// memory nor disk.
type LineLog struct {
	Line  func(line string)              // for every line, one after another
	Clean func(line string) (out string) // removes secrets from a line before it is cut; nil for none
	Full  func(lines int)                // once, when the limit is reached

	mu     sync.Mutex
	line   []byte // guarded by mu, as are the others
	cut    bool   // the line was longer than the part that is kept
	lines  int
	filled bool // the limit was reached and reported
}

// Write implements io.Writer. It always accepts everything.
func (l *LineLog) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := data; len(rest) > 0 && !l.filled; {
		part, after, found := bytes.Cut(rest, []byte("\n"))
		room := min(l.kept()-len(l.line), len(part))
		l.line, l.cut = append(l.line, part[:room]...), l.cut || room < len(part)
		rest = after
		if found {
			l.flush()
		}
	}
	return len(data), nil
}

// Finish passes on a last line without a newline.
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
	l.Line(printable.Text(l.cleaned(), maxLine))
	l.line, l.cut = l.line[:0], false
}

// kept returns how many bytes of a line are kept.
func (l *LineLog) kept() int {
	if l.Clean == nil {
		return maxLine
	}
	return maxRaw
}

// cleaned returns the line after Clean.
func (l *LineLog) cleaned() string {
	if l.Clean == nil {
		return string(l.line)
	}
	text := l.Clean(string(l.line))
	if l.cut { // its end may be the first part of a secret, which Clean does not know
		text = text[:max(0, len(text)-maxSecret)]
	}
	return text
}
