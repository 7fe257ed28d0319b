package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/logqueue"
)

// flushTimeout is how long a process that ends waits for whoever reads its log.
const flushTimeout = 500 * time.Millisecond

// newLogger logs as configured.
func newLogger(cfg *config.Config, stderr io.Writer) *slog.Logger {
	return newLoggerAt(cfg.Log.Level, cfg, stderr)
}

// newLoggerAt logs as configured, from a level that may change.
func newLoggerAt(level slog.Leveler, cfg *config.Config, stderr io.Writer) *slog.Logger {
	if o, ok := stderr.(*errorOutput); ok {
		o.json.Store(cfg.Log.JSON)
	}
	return slog.New(newHandler(level, cfg.Log.JSON, stderr))
}

func newHandler(level slog.Leveler, json bool, out io.Writer) slog.Handler {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: readable}
	if json {
		return slog.NewJSONHandler(out, options)
	}
	options.ReplaceAttr = readableText
	return slog.NewTextHandler(out, options)
}

// errorOutput is standard error. Once detached, whoever reads it neither ends nor delays this process:
// not by going away, not by no longer reading, not by a disk that is full.
type errorOutput struct {
	to    io.Writer
	json  atomic.Bool // how lines are written that are its own
	queue atomic.Pointer[logqueue.Writer]
}

// Write implements [io.Writer].
func (o *errorOutput) Write(p []byte) (int, error) {
	if queue := o.queue.Load(); queue != nil {
		return queue.Write(p)
	}
	return o.to.Write(p)
}

// detach lets this process go on whatever happens to the reader, until the process ends.
func (o *errorOutput) detach() {
	surviveBrokenPipe()
	o.queue.Store(logqueue.New(o.to, func(dropped int) []byte {
		var line lineBuffer
		slog.New(newHandler(slog.LevelInfo, o.json.Load(), &line)).Error("log lines were dropped, nobody read them", "lines", dropped)
		return line
	}))
}

// finish hands on what still waits, for a limited time.
func (o *errorOutput) finish() {
	if queue := o.queue.Load(); queue != nil {
		queue.Flush(flushTimeout)
	}
}

// detachLog detaches standard error from whoever reads it, for a command that has to go on.
func detachLog(c *cobra.Command) {
	if o, ok := c.ErrOrStderr().(*errorOutput); ok {
		o.detach()
	}
}

// readableText separates the parts of a list too, which in JSON has a form of its own.
func readableText(groups []string, attr slog.Attr) slog.Attr {
	if attr.Value.Kind() != slog.KindAny {
		return readable(groups, attr)
	}
	list := reflect.ValueOf(attr.Value.Any())
	if list.Kind() != reflect.Slice || list.Type().Elem().Kind() == reflect.Uint8 {
		return attr
	}
	parts := make([]string, list.Len())
	for i := range parts {
		parts[i] = fmt.Sprint(list.Index(i))
	}
	attr.Value = slog.StringValue(strings.Join(parts, ", "))
	return attr
}

// lineBuffer keeps what is written to it.
type lineBuffer []byte

// Write implements [io.Writer].
func (b *lineBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

// surviveBrokenPipe makes a write to a reader who has gone an error instead of the end of the
// process. The signal is caught and not ignored, so that programs started meanwhile have it at its
// default. It returns what undoes it.
func surviveBrokenPipe() (undo func()) {
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	return func() { signal.Stop(broken) }
}

// readable writes durations as people do, in JSON too, where they would be nanoseconds.
func readable(_ []string, attr slog.Attr) slog.Attr {
	if attr.Value.Kind() == slog.KindDuration {
		attr.Value = slog.StringValue(attr.Value.Duration().String())
	}
	return attr
}
