package plugins

import (
	"bufio"
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/credagent/credagent/plugins/providerpb"
)

func TestExchangeSendsWhatWasAsked(t *testing.T) {
	var got *http.Request
	s, requests := counting(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		got = r
		w.Header().Set("X-Request-Id", "42")
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("X-Secret-Header", "not for the agent")
		fmt.Fprint(w, `{"access_token":"t"}`)
	})
	in := asking(s.URL + "/token")
	in.Form = append(in.Form,
		&providerpb.Parameter{Name: "resource", Value: "https://a"},
		&providerpb.Parameter{Name: "resource", Value: "https://b"})
	in.Headers = []*providerpb.Parameter{{Name: "X-Client-Request-Id", Value: "7"}, {Name: "Content-Type", Value: "text/plain"}}
	reply := exchangeWith(t, posting("client_secret", "sesame-sesame"), in)

	answer := mustAnswer(t, reply)
	if requests.Load() != 1 || got.Method != http.MethodPost || got.URL.Path != "/token" {
		t.Errorf("%d requests, the last %s %s", requests.Load(), got.Method, got.URL)
	}
	if form := got.PostForm.Encode(); form != "client_id=app&client_secret=sesame-sesame&grant_type=client_credentials&resource=https%3A%2F%2Fa&resource=https%3A%2F%2Fb" {
		t.Errorf("form %s", form)
	}
	if got.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || got.Header.Get("Accept") != "application/json" || got.Header.Get("X-Client-Request-Id") != "7" {
		t.Errorf("headers %v", got.Header)
	}
	if answer.GetStatus() != 200 || string(answer.GetBody()) != `{"access_token":"t"}` || answer.GetBodyError() != "" {
		t.Errorf("answer %v", answer)
	}
	for _, header := range answer.GetHeaders() {
		if !strings.Contains("X-Request-Id Date Content-Type", header.GetName()) {
			t.Errorf("header %s reached the agent", header.GetName())
		}
	}
	if c := reply.GetCredential(); c.GetIdentity() != "sha256:AB" || c.GetNotAfterSeconds() != 2_000_000_000 || c.GetFiles()[0] != "/etc/fake" {
		t.Errorf("credential %v", c)
	}
}

// Every status comes back as it is, once, and its Retry-After with it.
func TestExchangeReturnsAnyStatus(t *testing.T) {
	for _, status := range []int{200, 204, 301, 302, 303, 307, 308, 400, 401, 408, 421, 425, 429, 500, 503, 599} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			elsewhere, redirected := counting(t, func(http.ResponseWriter, *http.Request) {})
			s, requests := counting(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", elsewhere.URL)
				w.Header().Set("Retry-After", "120")
				w.WriteHeader(status)
			})
			answer := mustAnswer(t, exchangeWith(t, fake{}, asking(s.URL)))
			if int(answer.GetStatus()) != status || headerOf(answer, "Retry-After") != "120" || headerOf(answer, "Date") == "" {
				t.Errorf("answer %v", answer)
			}
			if requests.Load() != 1 || redirected.Load() != 0 {
				t.Errorf("%d requests and %d to where it redirected", requests.Load(), redirected.Load())
			}
		})
	}
}

// raw serves each connection by hand: it reads one request, then writes the answer and closes.
func raw(t *testing.T, serve func(net.Conn)) (url string, requests *atomic.Int32) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	requests = new(atomic.Int32)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				if request, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.Copy(io.Discard, request.Body)
					requests.Add(1)
					serve(conn)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	return "http://" + listener.Addr().String(), requests
}

func TestExchangeWithBrokenAnswers(t *testing.T) {
	const head = "HTTP/1.1 429 Slow Down\r\nRetry-After: 90\r\n"
	write := func(text string) func(net.Conn) {
		return func(c net.Conn) { _, _ = io.WriteString(c, text) }
	}
	for name, tc := range map[string]struct {
		serve     func(net.Conn)
		status    int32 // 0: no answer
		bodyError string
		message   string
	}{
		"truncated length":  {serve: write(head + "Content-Length: 99\r\n\r\n{\"err"), status: 429, bodyError: "reading the answer: the connection ended before the answer was whole"},
		"truncated chunk":   {serve: write(head + "Transfer-Encoding: chunked\r\n\r\n40\r\n{\"err"), status: 429, bodyError: "the connection ended"},
		"damaged chunk":     {serve: write(head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}"), status: 429, bodyError: "reading the answer: "},
		"damaged gzip":      {serve: write(head + "Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n{\"a}"), status: 429, bodyError: "reading the answer: "},
		"a status alone":    {serve: write("HTTP/1.1 429\r\nRetry-After: 90\r\n\r\n"), status: 429},
		"other protocol":    {serve: write("HTTP/1.1 101 Switching Protocols\r\nRetry-After: 90\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nnaked"), status: 101, bodyError: "another protocol"},
		"location no URL":   {serve: write("HTTP/1.1 302 Found\r\nRetry-After: 90\r\nLocation: http://%zz\r\nContent-Length: 0\r\n\r\n"), status: 302},
		"header not UTF-8":  {serve: write(head + "X-Request-Id: a\xff\tb\r\nContent-Length: 0\r\n\r\n"), status: 429},
		"header too long":   {serve: write(head + "X-Request-Id: " + strings.Repeat("x", 5000) + "\r\nContent-Length: 0\r\n\r\n"), status: 429},
		"nothing":           {serve: func(net.Conn) {}, message: "the connection ended before the answer was whole"},
		"half a status":     {serve: write("HTTP/1."), message: "it is not HTTP/1.1"},
		"no HTTP":           {serve: write("SSH-2.0-OpenSSH\r\n\r\n"), message: "it is not HTTP/1.1"},
		"headers too large": {serve: write("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 128<<10) + "\r\n\r\n"), message: "exceeded"},
		"reset": {serve: func(c net.Conn) {
			_ = c.(*net.TCPConn).SetLinger(0)
		}, message: "reset"},
	} {
		t.Run(name, func(t *testing.T) {
			url, requests := raw(t, tc.serve)
			reply := exchangeWith(t, fake{}, asking(url))
			if requests.Load() != 1 {
				t.Errorf("%d requests", requests.Load())
			}
			if tc.status == 0 {
				if message := mustFail(t, reply, providerpb.Failure_KIND_NETWORK); !strings.Contains(message, tc.message) {
					t.Errorf("message %q", message)
				}
				return
			}
			answer := mustAnswer(t, reply)
			if answer.GetStatus() != tc.status || headerOf(answer, "Retry-After") != "90" || answer.GetTimedOut() {
				t.Errorf("answer %v", answer)
			}
			if got := answer.GetBodyError(); !strings.Contains(got, tc.bodyError) || (got == "") != (tc.bodyError == "") {
				t.Errorf("body error %q, want %q", got, tc.bodyError)
			}
			if id := headerOf(answer, "X-Request-Id"); id != "" && id != "a? b" {
				t.Errorf("X-Request-Id %q", id)
			}
		})
	}
}

func TestExchangeTimesOut(t *testing.T) {
	for name, tc := range map[string]struct {
		sends    string
		answered bool
	}{
		"silence":             {},
		"half a header":       {sends: "HTTP/1.1 200 OK\r\nConte"},
		"half a body":         {sends: "HTTP/1.1 503 No\r\nRetry-After: 90\r\nContent-Length: 100\r\n\r\n{", answered: true},
		"early hints forever": {sends: "HTTP/1.1 103 Early Hints\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{})
			url, _ := raw(t, func(c net.Conn) {
				_, _ = io.WriteString(c, tc.sends)
				<-done
			})
			defer close(done)
			in := asking(url)
			in.TimeoutMilliseconds = 50
			reply := exchangeWith(t, fake{}, in)
			if !tc.answered {
				if message := mustFail(t, reply, providerpb.Failure_KIND_TIMEOUT); message != "the server did not answer in time" {
					t.Errorf("message %q", message)
				}
				return
			}
			answer := mustAnswer(t, reply)
			if !answer.GetTimedOut() || answer.GetStatus() != 503 || headerOf(answer, "Retry-After") != "90" || answer.GetBodyError() != "reading the answer: the server did not answer in time" {
				t.Errorf("answer %v", answer)
			}
		})
	}
}

// A server that drips its answer is cut off by the time limit as a whole, not by a pause.
func TestExchangeEndsADrippingAnswer(t *testing.T) {
	url, _ := raw(t, func(c net.Conn) {
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for err == nil {
			_, err = io.WriteString(c, "1\r\n \r\n")
			runtime.Gosched()
		}
	})
	in := asking(url)
	in.TimeoutMilliseconds = 30
	answer := mustAnswer(t, exchangeWith(t, fake{}, in))
	if answer.GetBodyError() == "" || len(answer.GetBody()) != 0 {
		t.Errorf("answer of %d bytes, error %q", len(answer.GetBody()), answer.GetBodyError())
	}
}

func TestExchangeBoundsTheBody(t *testing.T) {
	block := bytes.Repeat([]byte("x"), 64<<10)
	for name, tc := range map[string]struct {
		size  int // bytes; negative: endless
		whole bool
	}{
		"1 MiB":        {size: maxBody, whole: true},
		"1 MiB + 1":    {size: maxBody + 1},
		"without end":  {size: -1},
		"nothing":      {size: 0, whole: true},
		"far too long": {size: 64 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := counting(t, func(w http.ResponseWriter, _ *http.Request) {
				for left := tc.size; left != 0; {
					n, err := w.Write(block[:min(len(block), max(left, -left*len(block)))])
					if err != nil {
						return
					}
					if left > 0 {
						left -= n
					}
				}
			})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			answer := mustAnswer(t, exchangeWith(t, fake{}, asking(s.URL)))
			runtime.ReadMemStats(&after)
			if tc.whole != (answer.GetBodyError() == "") || tc.whole && len(answer.GetBody()) != tc.size {
				t.Errorf("%d bytes, error %q", len(answer.GetBody()), answer.GetBodyError())
			}
			if !tc.whole && answer.GetBodyError() != "reading the answer: it is longer than 1 MiB" {
				t.Errorf("error %q", answer.GetBodyError())
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
				t.Errorf("reading the answer allocated %d bytes", used)
			}
		})
	}
}

func TestExchangeOverTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }))
	s.Config.ErrorLog = quiet()
	s.StartTLS()
	defer s.Close()
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})

	for name, tc := range map[string]struct {
		endpoint string
		roots    []byte
		kind     providerpb.Failure_Kind
		message  string
	}{
		"trusted":        {s.URL, roots, 0, ""},
		"unknown CA":     {s.URL, nil, providerpb.Failure_KIND_NETWORK, "name its certificate in ca_file"},
		"other name":     {strings.Replace(s.URL, "127.0.0.1", "localhost", 1), roots, providerpb.Failure_KIND_NETWORK, "localhost"},
		"roots not PEM":  {s.URL, []byte("nonsense"), providerpb.Failure_KIND_CONFIG, "no PEM certificate"},
		"plain to TLS":   {strings.Replace(s.URL, "https", "http", 1), nil, 0, ""},
		"no URL":         {"https://\x7f", nil, providerpb.Failure_KIND_CONFIG, "not a URL"},
		"unknown scheme": {"ftp://127.0.0.1/", nil, providerpb.Failure_KIND_NETWORK, "unsupported protocol scheme"},
		"nobody listens": {"http://127.0.0.1:1/", nil, providerpb.Failure_KIND_NETWORK, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			in := asking(tc.endpoint)
			in.TrustRoots = tc.roots
			reply := exchangeWith(t, fake{}, in)
			if tc.kind == 0 {
				mustAnswer(t, reply)
			} else if message := mustFail(t, reply, tc.kind); !strings.Contains(message, tc.message) {
				t.Errorf("message %q", message)
			}
		})
	}
}

// connectProxy is an HTTP proxy for CONNECT that counts its tunnels.
func connectProxy(t *testing.T) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	return counting(t, func(w http.ResponseWriter, r *http.Request) {
		target, err := net.Dial("tcp", r.Host)
		if err != nil || r.Method != http.MethodConnect {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer target.Close()
		client, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer client.Close()
		_, _ = io.WriteString(client, "HTTP/1.1 200 Connected\r\n\r\n")
		go func() { _, _ = io.Copy(target, buffered) }()
		_, _ = io.Copy(client, target)
	})
}

func TestExchangeThroughAProxy(t *testing.T) {
	var hits atomic.Int32
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	proxy, tunnels := connectProxy(t)
	defer s.Close() // before the proxy, whose tunnel it ends
	in := asking(s.URL)
	in.TrustRoots = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	in.Proxy = proxy.URL
	server := &server{provider: fake{}}
	mustAnswer(t, exchange(t, server, in))
	if tunnels.Load() != 1 || hits.Load() != 1 {
		t.Errorf("%d tunnels, %d requests", tunnels.Load(), hits.Load())
	}

	in.Proxy = "http://user:p%zz@"
	if message := mustFail(t, exchange(t, server, in), providerpb.Failure_KIND_CONFIG); !strings.HasPrefix(message, "the client's proxy cannot be used: a % in its user or password begins no escape") {
		t.Errorf("message %q", message)
	}
	in.Proxy = "http://user:proxy-password@127.0.0.1:1"
	if message := mustFail(t, exchange(t, server, in), providerpb.Failure_KIND_NETWORK); strings.Contains(message, "proxy-password") {
		t.Errorf("message %q shows the proxy's password", message)
	}
	s.CloseClientConnections()
}

// connections counts what a server accepts.
func connections(s *httptest.Server) *atomic.Int32 {
	var accepted atomic.Int32
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			accepted.Add(1)
		}
	}
	return &accepted
}

func TestExchangeReusesItsConnection(t *testing.T) {
	var requests atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		fmt.Fprint(w, "{}")
	}))
	accepted := connections(s)
	s.Start()
	defer s.Close()
	server := &server{provider: fake{}}
	for range 3 {
		mustAnswer(t, exchange(t, server, asking(s.URL)))
	}
	if accepted.Load() != 1 || requests.Load() != 3 {
		t.Errorf("%d connections for %d requests", accepted.Load(), requests.Load())
	}
	s.CloseClientConnections()
	// The close may be noticed only while the next request is about to be sent, which then fails.
	if reply := exchange(t, server, asking(s.URL)); reply.GetFailure() != nil {
		mustAnswer(t, exchange(t, server, asking(s.URL)))
	}
	if requests.Load() != 4 {
		t.Errorf("%d requests after the server closed the connection, want 4", requests.Load())
	}
}

// A connection that ends after the request was written is not a reason to send it again.
func TestExchangeNeverRepeatsOnAReusedConnection(t *testing.T) {
	var requests atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) > 1 {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, "{}")
	}))
	defer s.Close()
	server := &server{provider: fake{}}
	in := asking(s.URL)
	in.Headers = []*providerpb.Parameter{{Name: "Idempotency-Key", Value: "1"}, {Name: "X-Idempotency-Key", Value: "1"}}
	mustAnswer(t, exchange(t, server, in))
	mustFail(t, exchange(t, server, in), providerpb.Failure_KIND_NETWORK)
	if requests.Load() != 2 {
		t.Errorf("%d requests for 2 exchanges", requests.Load())
	}
}

func TestExchangeStopsWithItsContext(t *testing.T) {
	arrived, done := make(chan struct{}), make(chan struct{})
	s, _ := counting(t, func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-done
	})
	defer close(done)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	reply, err := (&server{provider: fake{}}).Exchange(ctx, asking(s.URL))
	if err != nil {
		t.Fatal(err)
	}
	mustFail(t, reply, providerpb.Failure_KIND_NETWORK)
}

func TestTransportsAreBounded(t *testing.T) {
	var e exchanger
	for i := range 3 * maxTransports {
		if _, err := e.kept(&providerpb.ExchangeRequest{Proxy: fmt.Sprintf("http://proxy-%d", i)}, nil); err != nil {
			t.Fatal(err)
		}
		if len(e.transports) > maxTransports {
			t.Fatalf("%d transports are kept", len(e.transports))
		}
	}
}

func BenchmarkExchange(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, `{"access_token":"t","expires_in":3600}`)
	}))
	defer s.Close()
	b.Run("provider", func(b *testing.B) {
		server := &server{provider: posting("client_secret", "sesame-sesame")}
		for b.Loop() {
			if reply, err := server.Exchange(b.Context(), asking(s.URL)); err != nil || reply.GetAnswer().GetStatus() != 200 {
				b.Fatal(reply, err)
			}
		}
	})
	b.Run("bare http.Client", func(b *testing.B) {
		for b.Loop() {
			response, err := http.PostForm(s.URL, map[string][]string{"client_secret": {"sesame-sesame"}})
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
	})
}

// Every value of a header that asks for a wait comes back, and what servers send in its place.
func TestAnswerKeepsEveryWait(t *testing.T) {
	header := http.Header{
		"Retry-After": {"1", "120"}, "Retry-After-Ms": {"500"}, "X-Ms-Retry-After-Ms": {"501"}, "Ratelimit-Reset": {"7"}, "Ratelimit": {`"default";r=0;t=60`},
		"X-Ratelimit-Reset": {"8"}, "X-Rate-Limit-Reset": {"9"}, "Www-Authenticate": {"Negotiate", `Bearer error="e"`}, "Set-Cookie": {"a=b"},
	}
	answer := readAnswer(&http.Response{StatusCode: http.StatusTooManyRequests, Header: header, Body: http.NoBody})
	got := http.Header{}
	for _, parameter := range answer.GetHeaders() {
		got.Add(parameter.GetName(), parameter.GetValue())
	}
	header.Del("Set-Cookie")
	if !reflect.DeepEqual(got, header) {
		t.Errorf("the answer's headers are %v, want %v", got, header)
	}
	many := http.Header{"Retry-After": slices.Repeat([]string{"1"}, 100)}
	if got := len(readAnswer(&http.Response{StatusCode: 429, Header: many, Body: http.NoBody}).GetHeaders()); got != 32 {
		t.Errorf("%d headers, want no more than the protocol allows", got)
	}
}
