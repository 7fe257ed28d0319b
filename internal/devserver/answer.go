package devserver

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// outcomeIssued is the Outcome of a request that was answered with a token.
const outcomeIssued = "issued"

// answer is the token endpoint's intended answer; deliver may distort it.
type answer struct {
	status  int // 0 when there will be no answer
	header  http.Header
	body    []byte
	outcome string
}

func (a answer) writeHead(w http.ResponseWriter) {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
}

func (a answer) write(w http.ResponseWriter) {
	a.writeHead(w)
	_, _ = w.Write(a.body)
}

// refusal is an OAuth error answer (RFC 6749, 5.2).
type refusal struct {
	status      int
	code        string
	aadsts      int // Entra's number for it; 0 means the usual one for the code
	description string
}

func invalidRequest(description string) *refusal {
	return &refusal{status: http.StatusBadRequest, code: "invalid_request", description: description}
}

func invalidScope(description string) *refusal {
	return &refusal{status: http.StatusBadRequest, code: "invalid_scope", description: description}
}

func invalidClient(aadsts int, format string, args ...any) *refusal {
	return &refusal{status: http.StatusUnauthorized, code: "invalid_client", aadsts: aadsts, description: fmt.Sprintf(format, args...)}
}

func (q *tokenRequest) jsonAnswer(status int, fields map[string]any) answer {
	// A map of strings, numbers and checked raw JSON always marshals.
	body, _ := json.Marshal(fields)
	header := http.Header{}
	header.Set("Content-Type", "application/json; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("Pragma", "no-cache")
	if q.at.entra {
		header.Set("X-Ms-Request-Id", newGUID())
		if id := q.header.Get("Client-Request-Id"); id != "" {
			header.Set("Client-Request-Id", id)
		}
	}
	return answer{status: status, header: header, body: body}
}

func (q *tokenRequest) refusalAnswer(r *refusal) answer {
	r = q.at.manner.reword(r)
	fields := map[string]any{"error": r.code, "error_description": describable(r.description)}
	if q.at.manner != nil && q.at.manner.bare {
		delete(fields, "error_description")
	}
	reply := q.jsonAnswer(r.status, fields)
	if q.at.entra {
		q.speakEntra(r, fields, reply.header.Get("X-Ms-Request-Id"))
		reply.body, _ = json.Marshal(fields)
	}
	if r.status == http.StatusUnauthorized {
		reply.header.Set("WWW-Authenticate", `Basic realm="credagent devserver", charset="UTF-8"`)
	}
	if r.status == http.StatusMethodNotAllowed {
		reply.header.Set("Allow", http.MethodPost)
	}
	reply.outcome = r.code
	return reply
}

// speakEntra gives an error the fields that Microsoft Entra ID sends.
func (q *tokenRequest) speakEntra(r *refusal, fields map[string]any, trace string) {
	number := cmp.Or(r.aadsts, usualAADSTS(r.code))
	correlation := cmp.Or(describable(q.header.Get("Client-Request-Id")), newGUID())
	now := entraTime(time.Now())
	fields["error_description"] = fmt.Sprintf("AADSTS%d: %s. Trace ID: %s Correlation ID: %s Timestamp: %s",
		number, describable(r.description), trace, correlation, now)
	fields["error_codes"] = []int{number}
	fields["timestamp"] = now
	fields["trace_id"] = trace
	fields["correlation_id"] = correlation
	fields["error_uri"] = fmt.Sprintf("https://login.microsoftonline.com/error?code=%d", number)
}

func usualAADSTS(code string) int {
	switch code {
	case "invalid_client":
		return 7000215
	case "invalid_request":
		return 900144
	case "invalid_scope":
		return 70011
	case "invalid_grant":
		return 70000
	case "unauthorized_client":
		return 700016
	case "unsupported_grant_type":
		return 70003
	case "access_denied":
		return 53003
	case "temporarily_unavailable":
		return 90033
	}
	return 50000
}

// describable keeps the characters that an error_description may have (RFC 6749, 5.2).
func describable(text string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return '?'
		}
		return c
	}, text)
}

func entraTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

func newGUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
