package api

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/status"
)

// stream is a live page's connection.
type stream struct {
	leave context.CancelFunc
	ended sync.WaitGroup

	header http.Header

	mu      sync.Mutex
	status  int // guarded by mu, as is what follows
	written strings.Builder
	body    strings.Builder // what of it was flushed
}

func (s *stream) Header() http.Header { return s.header }

func (s *stream) WriteHeader(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written.Write(p)
}

func (s *stream) Flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.body.Reset()
	s.body.WriteString(s.written.String())
}

// openStream connects a live page, and returns when nothing happens any more.
func openStream(handler http.Handler) *stream {
	ctx, cancel := context.WithCancel(context.Background())
	s := &stream{leave: cancel, header: http.Header{}, status: http.StatusOK}
	s.ended.Go(func() { handler.ServeHTTP(s, httptest.NewRequest(http.MethodGet, "/v1/events", nil).WithContext(ctx)) })
	synctest.Wait()
	return s
}

func (s *stream) close() {
	s.leave()
	s.ended.Wait()
}

// got is what has arrived.
func (s *stream) got() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.body.String()
}

// events lists the kinds of the events that have arrived.
func (s *stream) events() string {
	var kinds []string
	for line := range strings.Lines(s.got()) {
		if kind, ok := strings.CutPrefix(line, "event: "); ok {
			kinds = append(kinds, strings.TrimSpace(kind))
		}
	}
	return strings.Join(kinds, " ")
}

// pass lets virtual time pass until all is quiet.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestStreamSendsWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fixed{}
		source.set(status.Status{Tokens: []status.Token{{Name: "first"}}})
		handler := Handler(source, http.NotFoundHandler())
		s := openStream(handler)
		defer s.close()
		if got := s.events(); got != "status" || !strings.Contains(s.got(), `<span class="title">first</span>`) {
			t.Errorf("at first: %s\n%s", got, s.got())
		}
		pass(9 * time.Second)
		if got := s.events(); got != "status" {
			t.Errorf("while nothing changes: %s", got)
		}
		pass(12 * time.Second)
		if got := s.events(); got != "status beat beat" {
			t.Errorf("while nothing changes for long: %s", got)
		}
		source.set(status.Status{Tokens: []status.Token{{Name: "second"}}})
		pass(1500 * time.Millisecond)
		if got := s.events(); got != "status beat beat status" || strings.Count(s.got(), `<span class="title">second</span>`) != 1 {
			t.Errorf("after a change: %s", got)
		}
		for line := range strings.Lines(s.got()) {
			if !strings.HasPrefix(line, "data: ") && !strings.HasPrefix(line, "event: ") && line != "\n" {
				t.Errorf("a line that is none of an event: %q", line)
			}
		}
		if got := s.Header().Get("Content-Type"); got != "text/event-stream" {
			t.Errorf("Content-Type %q", got)
		}
	})
}

// TestStreamTellsTheTime: the first line of every event is the server's clock.
func TestStreamTellsTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStream(Handler(&fixed{}, http.NotFoundHandler()))
		defer s.close()
		pass(11 * time.Second)
		for _, want := range []string{"event: status\ndata: 946684800000\ndata: <div id=\"top\">\ndata: <header>\n", "event: beat\ndata: 946684810000\n\n"} {
			if !strings.Contains(s.got(), want) {
				t.Errorf("there is no %q in %s", want, s.got())
			}
		}
	})
}

func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fixed{}
		handler := Handler(source, http.NotFoundHandler())
		var streams []*stream
		for range mostReaders {
			streams = append(streams, openStream(handler))
		}
		full := openStream(handler)
		full.close()
		if full.status != http.StatusServiceUnavailable || full.Header().Get("Retry-After") == "" {
			t.Errorf("one too many: status %d", full.status)
		}
		before := source.count()
		pass(10 * time.Second)
		if asked := source.count() - before; asked > 2*10 {
			t.Errorf("%d pages look %d times in ten seconds", mostReaders, asked)
		}
		streams[0].close()
		again := openStream(handler)
		if again.status != http.StatusOK || again.events() != "status" {
			t.Errorf("after one left: status %d, %s", again.status, again.events())
		}
		again.close()
		for _, s := range streams[1:] {
			s.close()
		}
		before = source.count()
		pass(time.Minute)
		if source.count() != before {
			t.Error("nobody is there, and the status is still asked for")
		}
	})
}

// deafWriter is a reader that has gone without a word.
type deafWriter struct{ *httptest.ResponseRecorder }

func (deafWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestStreamEndsWhenNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPage(&fixed{})
		p.stream(deafWriter{httptest.NewRecorder()}, httptest.NewRequest(http.MethodGet, "/v1/events", nil))
		if len(p.readers) != 0 {
			t.Error("its slot is not free again")
		}
	})
}

// pipes is a listener for connections within a synctest bubble.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// TestStreamOutlivesTheServersTimeLimits: a page stays live for longer than any answer may take,
// ends with the agent, and not because its reader is slow to go.
func TestStreamOutlivesTheServersTimeLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := make(pipes)
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() {
			served <- Serve(ctx, listener, Handler(&fixed{}, http.NotFoundHandler()), slog.New(slog.DiscardHandler))
		}()
		ours, theirs := net.Pipe()
		listener <- theirs
		go func() { _, _ = io.WriteString(ours, "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n") }()
		beats := 0
		read := bufio.NewScanner(ours)
		for begun := time.Now(); beats < 12; {
			if !read.Scan() {
				t.Fatalf("it ended after %v and %d beats: %v", time.Since(begun), beats, read.Err())
			}
			if read.Text() == "event: beat" {
				beats++
			}
		}
		go func() { _, _ = io.Copy(io.Discard, ours) }()
		begun := time.Now()
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took >= stopTimeout {
			t.Errorf("the end took %v", took)
		}
	})
}

// TestStreamLeavesASlowReader: who does not read is left after a while, so that it holds nothing up.
func TestStreamLeavesASlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := make(pipes)
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		p := newPage(&fixed{})
		go func() {
			served <- Serve(ctx, listener, http.HandlerFunc(p.stream), slog.New(slog.DiscardHandler))
		}()
		ours, theirs := net.Pipe()
		listener <- theirs
		_, _ = io.WriteString(ours, "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
		pass(time.Second)
		if len(p.readers) != 1 {
			t.Error("it is not a reader")
		}
		pass(readerTimeout)
		if len(p.readers) != 0 {
			t.Error("it is still waited for")
		}
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
