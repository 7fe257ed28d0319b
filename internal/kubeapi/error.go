package kubeapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/credagent/credagent/internal/printable"
)

const (
	maxStatus = 64 << 10 // bytes of a refusal that are read
	maxText   = 500      // characters of one that are shown
)

// Error is a failure that the API server answered, as its Status object describes it.
type Error struct {
	Code       int    // the HTTP status
	Reason     string // such as Conflict; "" without a Status object
	Message    string // by the server, made printable
	Causes     []Cause
	RetryAfter time.Duration // 0 for none
}

// Cause is one part of a refusal.
type Cause struct {
	Reason  string // such as FieldManagerConflict
	Field   string // such as .data.token
	Message string
}

// Error implements error.
func (e *Error) Error() string {
	text := fmt.Sprintf("the API server answered %d %s", e.Code, http.StatusText(e.Code))
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// overloaded reports whether to send the API server no request for a while.
func (e *Error) overloaded() bool {
	switch e.Code {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return e.Code >= http.StatusInternalServerError && e.RetryAfter > 0
}

// status is the object with which the API server reports a failure and ends a stream.
type status struct {
	Kind    string `json:"kind"`
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Details struct {
		Causes []struct {
			Reason  string `json:"reason"`
			Field   string `json:"field"`
			Message string `json:"message"`
		} `json:"causes"`
	} `json:"details"`
}

func newError(response *http.Response, body []byte) *Error {
	e := parseStatus(body)
	e.Code = response.StatusCode
	e.RetryAfter = retryAfter(response.Header.Get("Retry-After"))
	return e
}

// parseStatus reads a Status object, or keeps the text of anything else.
func parseStatus(body []byte) *Error {
	var s status
	if json.Unmarshal(body, &s) != nil || s.Kind != "Status" {
		return &Error{Message: clean(string(body))}
	}
	e := &Error{Code: s.Code, Reason: clean(s.Reason), Message: clean(s.Message)}
	for _, cause := range s.Details.Causes {
		e.Causes = append(e.Causes, Cause{Reason: clean(cause.Reason), Field: clean(cause.Field), Message: clean(cause.Message)})
	}
	return e
}

// retryAfter reads a Retry-After, which the API server gives in seconds.
func retryAfter(header string) time.Duration {
	seconds, err := strconv.ParseUint(strings.TrimSpace(header), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

func clean(text string) string { return printable.Text(text, maxText) }
