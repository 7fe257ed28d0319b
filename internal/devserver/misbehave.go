package devserver

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"time"
)

const (
	gatewayPage = "<!DOCTYPE html>\n<html><head><title>Gateway</title></head><body><h1>Something is between you and the server</h1></body></html>\n"
	chunk       = 64 << 10
)

// substitute returns the answer with which a fault replaces the server's own, if it does.
func (s *Server) substitute(f Fault, q *tokenRequest) (answer, bool) {
	var reply answer
	switch f.Kind {
	case Throttle, ThrottleDate:
		reply = q.refusalAnswer(&refusal{status: f.status(), code: "temporarily_unavailable", aadsts: 90055, description: "too many requests"})
		reply.outcome = string(f.Kind)
	case Refuse:
		reply = q.refusalAnswer(&refusal{status: f.status(), code: f.Error, aadsts: f.AADSTS, description: f.refusalText(q)})
	case Outage, Garbage:
		reply = page(f.status(), "text/html; charset=utf-8", gatewayPage)
	case Empty:
		reply = page(f.status(), "application/json", "")
	case Body:
		reply = page(f.status(), "application/json", f.Body)
	case Redirect:
		reply = page(f.status(), "text/plain", "")
		reply.header.Set("Location", s.elsewhere(f))
	case Huge:
		reply = page(http.StatusOK, "application/json", "")
	case Stall, Reset, Cut:
		reply.outcome = string(f.Kind)
		return reply, true
	default:
		return answer{}, false
	}
	if reply.outcome == "" {
		reply.outcome = string(f.Kind)
	}
	if retryAfter := f.retryAfter(time.Now()); retryAfter != "" {
		reply.header.Set("Retry-After", retryAfter)
	}
	return reply, true
}

func page(status int, contentType, body string) answer {
	header := http.Header{}
	header.Set("Content-Type", contentType)
	return answer{status: status, header: header, body: []byte(body)}
}

// refusalText includes a requested AADSTS number even if the endpoint is not Entra's.
func (f Fault) refusalText(q *tokenRequest) string {
	if f.AADSTS == 0 || q.at.entra {
		return "refused on command"
	}
	return "AADSTS" + strconv.Itoa(f.AADSTS) + ": refused on command"
}

// elsewhere returns the target of a redirect: by default a token endpoint whose log shows who follows.
func (s *Server) elsewhere(f Fault) string {
	if f.Location != "" {
		return f.Location
	}
	return s.URL() + plainEndpoint("redirected").path
}

func (f Fault) retryAfter(now time.Time) string {
	if f.Kind != ThrottleDate {
		return f.RetryAfter
	}
	// The date has whole seconds: round up, so that it is never too early.
	return now.Add(f.Delay + time.Second - 1).UTC().Format(http.TimeFormat)
}

// distort falsifies the fields of a token answer.
func (f Fault) distort(fields map[string]any) {
	switch f.Kind {
	case NoExpiresIn:
		delete(fields, "expires_in")
		delete(fields, "ext_expires_in")
	case ExpiresIn:
		fields["expires_in"] = f.wrongLife(fields["expires_in"])
	case RefreshIn:
		fields["refresh_in"] = json.RawMessage(f.Body)
	case TokenType:
		fields["token_type"] = f.Body
	}
}

func (f Fault) wrongLife(life any) any {
	seconds, _ := life.(int64)
	switch f.Body {
	case "string":
		return strconv.FormatInt(seconds, 10)
	case "negative":
		return -seconds
	case "huge":
		return json.RawMessage("1e30")
	case "garbage":
		return "soon"
	}
	return json.RawMessage(f.Body)
}

// deliver sends an answer as a fault would have it.
func (s *Server) deliver(w http.ResponseWriter, r *http.Request, reply answer, f Fault) {
	switch f.Kind {
	case Stall:
		s.stall(r.Context())
	case Slow:
		s.sleep(r.Context(), f.Delay)
		reply.write(w)
	case Drip:
		s.drip(w, r, reply, f.Delay)
	case Reset:
		hangUp(w, "")
	case Cut:
		hangUp(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no")
	case Truncate:
		// The server closes the connection because the body is shorter than declared.
		reply.writeHead(w)
		_, _ = w.Write(reply.body[:len(reply.body)/2])
	case Huge:
		s.flood(w, reply, f.Size)
	default:
		reply.write(w)
	}
}

// stall holds a request until its client or the server goes away.
func (s *Server) stall(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-s.closed:
	}
	panic(http.ErrAbortHandler)
}

// sleep waits, and abandons the request if its client or the server goes away meanwhile.
func (s *Server) sleep(ctx context.Context, delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		panic(http.ErrAbortHandler)
	case <-s.closed:
		panic(http.ErrAbortHandler)
	}
}

func (s *Server) drip(w http.ResponseWriter, r *http.Request, reply answer, apart time.Duration) {
	reply.writeHead(w)
	flusher := http.NewResponseController(w)
	for i := range reply.body {
		s.sleep(r.Context(), apart)
		_, err := w.Write(reply.body[i : i+1])
		if err != nil || flusher.Flush() != nil {
			return
		}
	}
}

// hangUp sends some bytes and closes the connection; without any, it resets the connection.
func hangUp(w http.ResponseWriter, last string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if last != "" {
		_, _ = conn.Write([]byte(last))
		_ = conn.Close()
		return
	}
	if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = wrapped.NetConn()
	}
	// Without lingering, closing a TCP connection resets it.
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// flood sends a JSON object of size bytes that looks like an answer until its end.
func (s *Server) flood(w http.ResponseWriter, reply answer, size int64) {
	const head, tail = `{"access_token":"`, `"}`
	for name, values := range reply.header {
		w.Header()[name] = values
	}
	w.WriteHeader(reply.status)
	_, err := w.Write([]byte(head))
	filler := make([]byte, chunk)
	for i := range filler {
		filler[i] = 'A'
	}
	for left := size - int64(len(head)+len(tail)); left > 0 && err == nil; left -= chunk {
		_, err = w.Write(filler[:min(left, chunk)])
	}
	if err == nil {
		_, _ = w.Write([]byte(tail))
	}
}
