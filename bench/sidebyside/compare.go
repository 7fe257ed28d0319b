package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/credagent/credagent/internal/devserver"
)

const (
	lookEvery     = 250 * time.Millisecond
	looksPerCount = 4 // memory is looked at once a second

	// retryAfter is what the server asks for. Tokens outlive it by so much that none comes into its last
	// five minutes, in which the libraries take it for expired: what is seen is what a program does that
	// could wait.
	retryAfter  = 10 * time.Minute
	enduringTTL = 2 * retryAfter
)

// result is what a program took.
type result struct {
	name  string
	kept  kept
	held  throttled // with tokens that are good and due
	empty throttled // with no token yet
}

// kept is the cost of keeping short-lived tokens in files.
type kept struct {
	requests int
	looks    int             // reads of a file
	expired  int             // looks that found a token that the server no longer accepts
	tokens   map[string]bool // those tokens
	cpu      time.Duration   // of the program and all that it started, start and end included
	memory   []sample
}

// throttled is what the server received while it asked the program to wait.
type throttled struct {
	requests int // from the first such answer, inclusive
	early    int // those that came before a wait was over
	valid    int // files with a token that was still good at the end
}

// compare runs all programs at once, first keeping tokens, then being throttled.
func compare(ctx context.Context, programs []program, s size) ([]result, error) {
	results := make([]result, len(programs))
	var keeping, throttling []func(context.Context) error
	for i, p := range programs {
		r := &results[i]
		r.name = p.name
		keeping = append(keeping, func(ctx context.Context) (err error) {
			r.kept, err = keep(ctx, p, s)
			return err
		})
		throttling = append(throttling, func(ctx context.Context) (err error) {
			r.held, err = throttle(ctx, p, s, true)
			return err
		}, func(ctx context.Context) (err error) {
			r.empty, err = throttle(ctx, p, s, false)
			return err
		})
	}
	if err := together(ctx, keeping); err != nil {
		return nil, err
	}
	return results, together(ctx, throttling)
}

// together runs everything at once. If one fails, the others are cancelled.
func together(ctx context.Context, jobs []func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(jobs))
	var working sync.WaitGroup
	for i, job := range jobs {
		working.Go(func() {
			if errs[i] = job(ctx); errs[i] != nil {
				cancel()
			}
		})
	}
	working.Wait()
	return errors.Join(errs...)
}

// keep runs a program that keeps short-lived tokens, and observes it.
func keep(ctx context.Context, p program, s size) (kept, error) {
	st, err := newStage(p, s, devserver.Options{TTL: s.life})
	if err != nil {
		return kept{}, err
	}
	defer st.close()
	k := kept{tokens: map[string]bool{}}
	err = st.keep(ctx, &k)
	return k, st.explain(err)
}

func (st *stage) keep(ctx context.Context, k *kept) error {
	if err := st.start(); err != nil {
		return err
	}
	if err := st.full(ctx); err != nil {
		return err
	}
	if err := st.lookOn(ctx, k); err != nil {
		return err
	}
	seen, err := st.requests()
	if err != nil {
		return err
	}
	k.requests = len(seen)
	k.cpu, err = st.stop()
	return err
}

// lookOn checks all files repeatedly until the time is over.
func (st *stage) lookOn(ctx context.Context, k *kept) error {
	over, ticker := time.After(st.size.span), time.NewTicker(lookEvery)
	defer ticker.Stop()
	for n := 0; ; n++ {
		if err := st.look(k); err != nil {
			return err
		}
		if n%looksPerCount == 0 {
			now, err := measure(st.cmd.Process.Pid)
			if err != nil {
				return err
			}
			k.memory = append(k.memory, now)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-st.ended:
			return errors.New("it has ended by itself")
		case <-over:
			return nil
		case <-ticker.C:
		}
	}
}

// look asks the server about the token in each file, which is how a workload would find out.
func (st *stage) look(k *kept) error {
	for _, file := range st.files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		k.looks++
		if token := string(content); !st.server.Valid(token) {
			k.expired++
			k.tokens[token] = true
		}
	}
	return nil
}

// throttle makes the server answer every request with 429 and a Retry-After, either while the program
// holds tokens that are good but due, or from its start. They are due so early because of the server's refresh_in,
// which both libraries and credagent follow.
func throttle(ctx context.Context, p program, s size, held bool) (throttled, error) {
	st, err := newStage(p, s, devserver.Options{TTL: enduringTTL, RefreshIn: s.due})
	if err != nil {
		return throttled{}, err
	}
	defer st.close()
	var t throttled
	err = st.throttle(ctx, held, &t)
	return t, st.explain(err)
}

func (st *stage) throttle(ctx context.Context, held bool, t *throttled) error {
	wait := devserver.Fault{Kind: devserver.Throttle, RetryAfter: strconv.Itoa(int(retryAfter / time.Second))}
	if !held {
		if err := st.server.Inject(wait); err != nil {
			return err
		}
	}
	if err := st.start(); err != nil {
		return err
	}
	if held {
		if err := st.full(ctx); err != nil {
			return err
		}
		if err := st.server.Inject(wait); err != nil {
			return err
		}
	}
	var first time.Time
	err := st.until(ctx, "the program is told to wait", func() bool {
		first = firstTold(st.server.Requests())
		return !first.IsZero()
	})
	if err != nil {
		return err
	}
	end := first.Add(st.size.throttle)
	if err := st.pass(ctx, end); err != nil {
		return err
	}
	return st.count(t, first, end)
}

func firstTold(requests []devserver.Request) time.Time {
	for _, r := range requests {
		if r.Status == http.StatusTooManyRequests {
			return r.At
		}
	}
	return time.Time{}
}

func (st *stage) pass(ctx context.Context, end time.Time) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-st.ended:
		return errors.New("it has ended by itself")
	case <-time.After(time.Until(end)):
		return nil
	}
}

func (st *stage) count(t *throttled, first, end time.Time) error {
	seen, err := st.requests()
	if err != nil {
		return err
	}
	for _, r := range seen {
		if r.At.Before(first) || r.At.After(end) {
			continue
		}
		t.requests++
		if r.Early > 0 {
			t.early++
		}
	}
	for _, file := range st.files {
		if content, err := os.ReadFile(file); err == nil && st.server.Valid(string(content)) {
			t.valid++
		}
	}
	if t.requests == 0 {
		return fmt.Errorf("no request is in the %v after the first answer that told it to wait", st.size.throttle)
	}
	return nil
}
