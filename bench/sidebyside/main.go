// Command sidebyside has credagent and two loops around Microsoft's libraries do the same work at the
// same time, each against an authorization server of its own, and prints one Markdown table of what
// each took: requests, expired tokens, processor time, memory, and requests while it was told to wait.
//
// It is a module of its own, so that credagent does not depend on the libraries. It promises to count
// whole programs, with the processes that they start. Caveat: it reads /proc, so it is for Linux.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// size is how much work the programs do.
type size struct {
	tokens   int
	life     time.Duration // of a token, while the tokens are kept
	span     time.Duration // how long they are kept
	poll     time.Duration // how often a loop asks its library for each token
	throttle time.Duration // how long requests are counted after the first that was told to wait
	due      time.Duration // after which age a token is to be refreshed, where the server throttles
}

// fullSize is what the documents show. A loop asks every ten seconds: were it longer, a request that
// fails would leave a token of a minute no time for a few more, and for the tokens that the libraries
// are made for, of an hour, their caches answer, so that asking costs nothing.
func fullSize() size {
	return size{tokens: 100, life: time.Minute, span: 5 * time.Minute, poll: 10 * time.Second, throttle: 10 * time.Minute, due: 30 * time.Second}
}

// shortSize shows in half a minute that everything runs.
func shortSize() size {
	return size{tokens: 10, life: 6 * time.Second, span: 15 * time.Second, poll: 2 * time.Second, throttle: 15 * time.Second, due: 3 * time.Second}
}

// check checks that the programs can do the work, and that the counts mean what the table says.
func (s size) check() error {
	switch {
	case s.tokens < 1:
		return fmt.Errorf("%d tokens are none", s.tokens)
	case s.life < time.Second || s.span <= 0 || s.poll <= 0:
		return errors.New("a token lives a second at least, and no time is zero or less")
	case s.throttle <= 0 || s.throttle > retryAfter:
		return fmt.Errorf("requests cannot be counted for %v: the server asks to wait for %v", s.throttle, retryAfter)
	}
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	s := readFlags()
	if err := s.check(); err != nil {
		fmt.Fprintln(os.Stderr, "sidebyside:", err)
		os.Exit(64)
	}
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "sidebyside:", err)
		os.Exit(1)
	}
}

func readFlags() size {
	s := fullSize()
	short := flag.Bool("short", false, "a small size, whatever the other flags say")
	flag.IntVar(&s.tokens, "tokens", s.tokens, "how many tokens each program keeps")
	flag.DurationVar(&s.life, "ttl", s.life, "the life of a token")
	flag.DurationVar(&s.span, "for", s.span, "how long the tokens are kept")
	flag.DurationVar(&s.poll, "poll", s.poll, "how often a loop asks its library for each token")
	flag.DurationVar(&s.throttle, "throttle", s.throttle, "how long requests are counted after the first that was told to wait, at most 10m")
	flag.Parse()
	if *short {
		return shortSize()
	}
	return s
}

func run(ctx context.Context, s size) error {
	dir, err := os.MkdirTemp("", "credagent-sidebyside-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	programs, err := build(ctx, dir)
	if err != nil {
		return err
	}
	results, err := compare(ctx, programs, s)
	if err != nil {
		return err
	}
	fmt.Print(table(results, s))
	return nil
}
