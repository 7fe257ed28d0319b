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

// flushTimeout is how long an ending process waits for the reader of its log.
const flushTimeout = 500 * time.Millisecond

// newLogger returns the configured logger.
func newLogger(cfg *config.Config, stderr io.Writer) *slog.Logger {
	return newLoggerAt(cfg.Log.Level, cfg, stderr)
}

// newLoggerAt returns the configured logger, with a level that may change.
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

// errorOutput is standard error. Once detached, its reader can neither end nor delay this process, whether it goes
// away, stops reading, or its disk is full.
type errorOutput struct {
	to    io.Writer
	json  atomic.Bool // the format of its own lines
	queue atomic.Pointer[logqueue.Writer]
}

// Write implements [io.Writer].
func (o *errorOutput) Write(p []byte) (int, error) {
	if queue := o.queue.Load(); queue != nil {
		return queue.Write(p)
	}
	return o.to.Write(p)
}

// detach makes this process independent of the reader until it ends.
func (o *errorOutput) detach() {
	surviveBrokenPipe()
	o.queue.Store(logqueue.New(o.to, func(dropped int) []byte {
		var line lineBuffer
		slog.New(newHandler(slog.LevelInfo, o.json.Load(), &line)).Error("log lines were dropped, nobody read them", "lines", dropped)
		return line
	}))
}

// finish flushes queued lines, for a limited time.
func (o *errorOutput) finish() {
	if queue := o.queue.Load(); queue != nil {
		queue.Flush(flushTimeout)
	}
}

// detachLog detaches standard error from its reader, for a command that has to keep running.
func detachLog(c *cobra.Command) {
	if o, ok := c.ErrOrStderr().(*errorOutput); ok {
		o.detach()
	}
}

// readableText also separates the items of a list, which JSON shows as an array.
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

// surviveBrokenPipe makes a write to a closed pipe an error instead of the end of the process. The signal is caught
// and not ignored, so that programs started meanwhile have its default. It returns a function that undoes this.
func surviveBrokenPipe() (undo func()) {
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	return func() { signal.Stop(broken) }
}

// readable formats durations for people, in JSON too, where they would be nanoseconds.
func readable(_ []string, attr slog.Attr) slog.Attr {
	if attr.Value.Kind() == slog.KindDuration {
		attr.Value = slog.StringValue(attr.Value.Duration().String())
	}
	return attr
}
