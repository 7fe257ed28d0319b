package api

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	// mostReaders is how many pages can be live at once.
	mostReaders = 16
	// lookTime is how often a live page looks for changes, beatTime how often it hears of the server.
	lookTime = time.Second
	beatTime = 10 * time.Second
	// readerTimeout is how long a reader may take to read what it is sent.
	readerTimeout = 5 * time.Second
)

// stream sends the page's content whenever it changed, as server-sent events, for as long as the
// reader stays. It runs in the reader's own goroutine, so it ends with the reader.
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

// reader is who reads a stream, and what it has seen of it.
type reader struct {
	w       http.ResponseWriter
	control *http.ResponseController
	seen    int // the number of the last frame
	heard   time.Time
}

// show sends what a reader has not seen yet, and the time now and then, which also finds out
// whether the reader is still there.
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
