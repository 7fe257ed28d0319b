package canary

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// front stands before an authorization server and keeps what passes: what authenticates requests,
// and the tokens that come back. It can hold requests up, and repeat them in its answers.
type front struct {
	*httptest.Server
	back http.Handler

	mu       sync.Mutex
	passed   map[string]string // guarded by mu, as is all below: secret → what it is
	waiting  map[string]int    // requests held up, by kind
	answered map[string]int    // token requests answered, by client
	hold     map[string]chan struct{}
	echo     bool
}

// The kinds of requests.
const (
	forMetadata = "metadata"
	forToken    = "token"
)

func newFront(t *testing.T) *front {
	t.Helper()
	f := &front{passed: map[string]string{}, waiting: map[string]int{}, answered: map[string]int{}, hold: map[string]chan struct{}{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(func() {
		f.release(forMetadata)
		f.release(forToken)
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

// holdUp lets no request of the kind through until it is released.
func (f *front) holdUp(kind string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hold[kind] = make(chan struct{})
}

func (f *front) release(kind string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if held := f.hold[kind]; held != nil {
		close(held)
		f.hold[kind] = nil
	}
}

// repeating makes the front answer token requests with an error that quotes them.
func (f *front) repeating(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.echo = on
}

// held is how many requests of the kind wait.
func (f *front) held(kind string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.waiting[kind]
}

// answers is how many token requests were answered for a client.
func (f *front) answers(client string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.answered[client]
}

// secrets are all that passed so far, of the kinds given.
func (f *front) secrets(kinds ...string) []Secret {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []Secret
	for _, text := range slices.Sorted(maps.Keys(f.passed)) {
		kind, _, _ := strings.Cut(f.passed[text], " of ")
		if len(kinds) == 0 || slices.Contains(kinds, kind) {
			all = append(all, Text(f.passed[text], text))
		}
	}
	return all
}

func (f *front) keep(text, what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(text) >= shortest && f.passed[text] == "" {
		f.passed[text] = what
	}
}

// ServeHTTP implements [http.Handler].
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	r.Body = io.NopCloser(bytes.NewReader(body))
	kind := forToken
	if strings.Contains(r.URL.Path, ".well-known") {
		kind = forMetadata
	}
	client := f.authentication(r, body)
	f.mu.Lock()
	held, echo := f.hold[kind], f.echo
	f.waiting[kind]++
	f.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-r.Context().Done():
		}
	}
	answer := &copied{ResponseWriter: w}
	defer func() { // also when a fault ends it by a panic
		f.mu.Lock()
		f.waiting[kind]--
		if kind == forToken {
			f.answered[client]++
		}
		f.mu.Unlock()
		f.keep(answer.token(), "token of "+client)
	}()
	if echo && kind == forToken {
		w.WriteHeader(http.StatusBadRequest)
		quoted, _ := json.Marshal(map[string]string{
			"error": "invalid_client", "error_description": fmt.Sprintf("who is %s, %s?", body, r.Header.Get("Authorization")),
		})
		_, _ = w.Write(quoted)
		return
	}
	f.back.ServeHTTP(answer, r)
}

// authentication keeps what authenticates a request, and says whose it is.
func (f *front) authentication(r *http.Request, body []byte) string {
	form, _ := url.ParseQuery(string(body))
	client := form.Get("client_id")
	if user, _, ok := r.BasicAuth(); ok {
		client = user
		_, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		f.keep(credentials, "header of "+client)
	}
	if assertion := form.Get("client_assertion"); assertion != "" {
		f.keep(assertion[strings.LastIndex(assertion, ".")+1:], "signature of "+client)
	}
	return client
}

// copied is an answer and a copy of its body.
type copied struct {
	http.ResponseWriter
	body bytes.Buffer
}

func (c *copied) Write(data []byte) (int, error) {
	if c.body.Len() < 1<<20 {
		c.body.Write(data)
	}
	return c.ResponseWriter.Write(data)
}

// Unwrap lets the server behind end the connection.
func (c *copied) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *copied) token() string {
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	_ = json.Unmarshal(c.body.Bytes(), &answer)
	return answer.AccessToken
}
