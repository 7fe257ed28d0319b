//go:build linux

package resilience_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// watched is a sink as its workload knows it. The function returns the tokens in it, or that it is
// not whole.
type watched struct {
	path   string
	tokens func(content string) ([]string, error)
}

var errTorn = errors.New("it is torn")

func rawTokens(content string) ([]string, error) { return []string{content}, nil }

func jsonTokens(content string) ([]string, error) {
	var held struct {
		AccessToken string `json:"access_token"`
	}
	if json.Unmarshal([]byte(content), &held) != nil {
		return nil, errTorn
	}
	return []string{held.AccessToken}, nil
}

// lineTokens reads NAME=value lines of so many tokens, and what the file must end with.
func lineTokens(lines int, end string) func(string) ([]string, error) {
	return func(content string) ([]string, error) {
		body, whole := strings.CutSuffix(content, end)
		if !whole || strings.Count(body, "\n") != lines || !strings.HasSuffix(body, "\n") {
			return nil, errTorn
		}
		var tokens []string
		for line := range strings.Lines(body) {
			_, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			tokens = append(tokens, value)
		}
		return tokens, nil
	}
}

// look reads a sink as its workload does, and says what is wrong with it.
func (w watched) look(valid func(string) bool) error {
	content, err := os.ReadFile(w.path)
	if err != nil {
		return err
	}
	tokens, err := w.tokens(string(content))
	if err != nil {
		return fmt.Errorf("%w: %d bytes", err, len(content))
	}
	for _, token := range tokens {
		if !valid(token) {
			return errors.New("the server does not accept a token in it")
		}
	}
	return nil
}

// readers read sinks at full speed.
type readers struct {
	reads  atomic.Int64
	bad    atomic.Int64
	stop   chan struct{}
	ending sync.WaitGroup
}

// startReaders starts n readers, each of which reads all the sinks again and again.
func startReaders(t *testing.T, n int, sinks []watched, valid func(string) bool) *readers {
	r := &readers{stop: make(chan struct{})}
	for range n {
		r.ending.Go(func() { r.run(t, sinks, valid) })
	}
	t.Cleanup(r.end)
	return r
}

func (r *readers) run(t *testing.T, sinks []watched, valid func(string) bool) {
	for {
		for _, sink := range sinks {
			select {
			case <-r.stop:
				return
			default:
			}
			r.reads.Add(1)
			if err := sink.look(valid); err != nil && r.bad.Add(1) <= 10 {
				t.Errorf("a workload reads %s: %v", sink.path, err)
			}
		}
	}
}

// end stops the readers. It may be called again.
func (r *readers) end() {
	select {
	case <-r.stop:
	default:
		close(r.stop)
	}
	r.ending.Wait()
}
