package main

import (
	"context"
	"errors"
	"io"
)

// errInterrupted means that a signal came before standard input was read.
var errInterrupted = errors.New("interrupted")

// readInput reads up to limit bytes of standard input, or until a signal ends ctx.
func readInput(ctx context.Context, in io.Reader, limit int64) ([]byte, error) {
	return interruptibly(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(in, limit)) })
}

// interruptibly returns read's result, or errInterrupted once ctx ends. A read of a terminal or a pipe cannot be
// woken up, and signals only end ctx: the goroutine stays behind, and the process ends soon.
func interruptibly[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, &statedError{exitUsage, errInterrupted}
	}
}
