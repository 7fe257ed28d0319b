package provider

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

const (
	maxLine  = 500 // bytes of a line that are kept
	maxLines = 100 // lines of one process that are logged
)

// lineLog logs what a process prints, line by line at level debug, up to a bound: a provider that
// prints without end costs neither memory nor disk.
type lineLog struct {
	log *slog.Logger

	mu     sync.Mutex
	line   []byte // guarded by mu, as is lines
	lines  int
	filled bool // the bound was reached and said
}

// Write implements io.Writer. It takes everything.
func (l *lineLog) Write(data []byte) (int, error) {
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

// finish logs a last line that no line break ended.
func (l *lineLog) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line) > 0 && !l.filled {
		l.flush()
	}
}

func (l *lineLog) flush() {
	if l.lines++; l.lines > maxLines {
		l.filled = true
		l.log.Debug("provider prints too much, the rest is dropped", "lines", maxLines)
		return
	}
	l.log.LogAttrs(context.Background(), slog.LevelDebug, "provider printed", slog.String("line", printable(string(l.line), maxLine)))
	l.line = l.line[:0]
}

// printable makes text from outside fit to be shown: one line, no control characters, bounded.
func printable(text string, limit int) string {
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}
