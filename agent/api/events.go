package api

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	// mostReaders is the maximum number of live pages.
	mostReaders = 16
	// lookTime is how often the stream checks for changes, beatTime how often it sends the server's time.
	lookTime = time.Second
	beatTime = 10 * time.Second
	// readerTimeout is how long a reader may take to read an event.
	readerTimeout = 5 * time.Second
)

// stream sends the page's content whenever it changes, as server-sent events, as long as the reader stays. It runs in
// the reader's own goroutine, so it ends with the reader.
func (p *page) stream(w http.ResponseWriter, r *http.Request) {
	select {
	case p.readers <- struct{}{}:
		defer func() { <-p.readers }()
	default:
		w.Header().Set("Retry-After", "30")
		http.Error(w, "as many pages are live as there may be", http.StatusServiceUnavailable)
		return
	}
	secure(w, "text/event-stream")
	to := reader{w: w, control: http.NewResponseController(w)}
	_ = to.control.SetReadDeadline(time.Time{}) // it will say nothing more
	ticker := time.NewTicker(lookTime)
	defer ticker.Stop()
	for {
		if p.show(&to) != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-ticker.C:
		}
	}
}

// reader is a reader of the stream, and what it has received.
type reader struct {
	w       http.ResponseWriter
	control *http.ResponseController
	seen    int // the number of the last frame
	heard   time.Time
}

// show sends what the reader has not received yet, and periodically the time, which also detects whether the reader
// is gone.
func (p *page) show(to *reader) error {
	f, err := p.look()
	if err != nil {
		return err
	}
	now := time.Now()
	if f.number != to.seen {
		to.seen, to.heard = f.number, now
		return to.send("status", f.html, now)
	}
	if now.Sub(to.heard) >= beatTime {
		to.heard = now
		return to.send("beat", nil, now)
	}
	return nil
}

// send writes an event: the server's clock in its first line, then the content.
func (r *reader) send(event string, content []byte, now time.Time) error {
	var text bytes.Buffer
	fmt.Fprintf(&text, "event: %s\ndata: %s\n", event, strconv.FormatInt(now.UnixMilli(), 10))
	for line := range bytes.Lines(content) {
		text.WriteString("data: ")
		text.Write(bytes.TrimRight(line, "\r\n"))
		text.WriteByte('\n')
	}
	text.WriteByte('\n')
	_ = r.control.SetWriteDeadline(now.Add(readerTimeout)) // without deadlines, the server's own have to do
	if _, err := r.w.Write(text.Bytes()); err != nil {
		return err
	}
	return r.control.Flush()
}
