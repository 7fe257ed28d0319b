// Package logqueue writes log lines to a reader that may stop, go away or run out of space, without ever blocking the
// caller.
//
// Lines wait in a bounded queue for the one goroutine that writes them. Lines that do not fit, or cannot be written,
// are dropped and counted, and the count is written as soon as lines flow again. One caveat: lines that are still
// queued when the process ends are lost unless [Writer.Flush] is called, which waits only for a limited time.
package logqueue

import (
	"io"
	"sync"
	"time"
)

// maxBytes is how much text may wait: some thousands of lines.
const maxBytes = 1 << 20

// Writer queues lines and passes them on to an [io.Writer]. Each call of Write is one line.
type Writer struct {
	to     io.Writer
	notice func(dropped int) []byte

	mu      sync.Mutex
	lines   [][]byte      // guarded by mu, as are all fields below
	bytes   int           // in lines
	dropped int           // lines lost since the last notice
	writing bool          // a goroutine is passing lines on
	idle    chan struct{} // closes when the queue is empty; nil while nothing waits for that
}

// New returns a writer to to. notice is the line that says how many lines were dropped.
func New(to io.Writer, notice func(dropped int) []byte) *Writer {
	return &Writer{to: to, notice: notice}
}

// Write implements [io.Writer]. It never waits for the reader, and never fails.
func (w *Writer) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bytes+len(line) > maxBytes {
		w.dropped++
		return len(line), nil
	}
	w.lines = append(w.lines, append([]byte(nil), line...))
	w.bytes += len(line)
	if !w.writing {
		w.writing, w.idle = true, make(chan struct{})
		go w.hand()
	}
	return len(line), nil
}

// Flush waits until everything was passed on, at most for the limit, and reports whether it was.
func (w *Writer) Flush(limit time.Duration) bool {
	w.mu.Lock()
	idle := w.idle
	w.mu.Unlock()
	if idle == nil {
		return true
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-idle:
		return true
	case <-timer.C:
		return false
	}
}

// hand writes lines until the queue is empty.
func (w *Writer) hand() {
	for {
		line, dropped, more := w.next()
		if !more {
			return
		}
		if dropped > 0 && !w.put(w.notice(dropped)) {
			w.lost(dropped + 1) // the line cannot be written either
			continue
		}
		if !w.put(line) {
			w.lost(1)
		}
	}
}

func (w *Writer) put(line []byte) bool {
	n, err := w.to.Write(line)
	return err == nil && n == len(line)
}

func (w *Writer) lost(lines int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropped += lines
}

// next takes the oldest line, and how many were dropped since the last notice.
func (w *Writer) next() (line []byte, dropped int, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.lines) == 0 {
		w.lines, w.writing = nil, false
		close(w.idle)
		w.idle = nil
		return nil, 0, false
	}
	line, w.lines = w.lines[0], w.lines[1:]
	w.bytes -= len(line)
	dropped, w.dropped = w.dropped, 0
	return line, dropped, true
}
