package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/sink"
	"github.com/credagent/credagent/token"
)

// secrets authenticates one client with a secret in this program's memory. The built-in providers run in separate
// processes; this one is only as safe as the program that contains it.
type secrets struct {
	client string
	http   *http.Client
}

// newSecrets follows no redirect: the secret is only for the token endpoint.
func newSecrets(client string) *secrets {
	return &secrets{client, &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// secretOf stands for the place where a program keeps its secrets.
func secretOf(string) string { return "s3cret" }

// Exchange sends one request, once. The agent interprets the answer.
func (s *secrets) Exchange(ctx context.Context, r provider.Request) (provider.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.TokenEndpoint, strings.NewReader(r.Form.Encode()))
	if err != nil {
		return provider.Reply{}, &provider.Failure{Kind: provider.KindConfig, Message: "the token endpoint is no URL"}
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(r.ClientID, secretOf(s.client))
	response, err := s.http.Do(request)
	if err != nil {
		return provider.Reply{}, &provider.Failure{Kind: provider.KindNetwork, Message: "the server cannot be reached"}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return provider.Reply{}, &provider.Failure{Kind: provider.KindNetwork, Message: "the answer broke off"}
	}
	return provider.Reply{Status: response.StatusCode, Header: response.Header, Body: body}, nil
}

// Check accepts every secret that exists.
func (s *secrets) Check(context.Context, bool) (provider.Credential, []provider.Problem, error) {
	if secretOf(s.client) == "" {
		return provider.Credential{}, []provider.Problem{{Message: "there is no secret for this client"}}, nil
	}
	return provider.Credential{}, nil, nil
}

// Close closes the client's idle connections.
func (s *secrets) Close() { s.http.CloseIdleConnections() }

// shelf is a sink in memory, from which the rest of the program reads a tenant's token.
type shelf struct {
	name string

	mu    sync.Mutex
	token token.Token // guarded by mu
}

func newShelf(name string) *shelf { return &shelf{name: name} }

func shelfPath(name string) string { return "shelf of " + name }

// Path is the agent's name for the sink.
func (s *shelf) Path() string { return shelfPath(s.name) }

// Tokens returns the names of the tokens in the sink.
func (s *shelf) Tokens() []string { return []string{s.name} }

// Write stores a new token.
func (s *shelf) Write(lookup sink.Lookup) (sink.Outcome, error) {
	t, ok := lookup(s.name)
	if !ok {
		return sink.Unchanged, &sink.MissingTokenError{Token: s.name}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == t {
		return sink.Unchanged, nil
	}
	s.token = t
	return sink.Written, nil
}

// Mend has nothing to repair: memory has no mode and no owner.
func (s *shelf) Mend(lookup sink.Lookup) (bool, error) { return s.Holds(lookup) }

// Holds always reports true: nothing else can have changed it.
func (s *shelf) Holds(sink.Lookup) (bool, error) { return true, nil }

// Untouched is always true for the same reason.
func (s *shelf) Untouched() bool { return true }

// state is where this program keeps what must survive a restart: here a map, in practice a database. The records hold
// tokens in plain text, so a real program encrypts them.
type state struct {
	mu      sync.Mutex
	records map[string][]byte // guarded by mu, as is full
	full    bool
}

func newState() *state { return &state{records: map[string][]byte{}} }

// LoadAll returns all saved records.
func (s *state) LoadAll() (map[string]store.Record, []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	records := map[string]store.Record{}
	var failed []error
	for name, data := range s.records {
		r, err := store.Decode(name, data)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		records[name] = r
	}
	return records, failed
}

// Save replaces a token's record.
func (s *state) Save(name string, r store.Record) error {
	data, err := store.Encode(name, r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		return errors.New("the database is full")
	}
	s.records[name] = data
	return nil
}

// Remove removes a token's record.
func (s *state) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.records, name)
	return nil
}
