package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/credagent/credagent/agent"
)

// notify reports the agent's state to the service manager (sd_notify(3)) and the log until ctx ends, and
// notes that READY=1 was sent.
// Without a service manager it only logs.
func notify(ctx context.Context, a *agent.Agent, told *atomic.Bool, log *slog.Logger) {
	watchdog := watchdogTicks(log)
	wasReady := false
	for {
		select {
		case <-ctx.Done():
			say(log, daemon.SdNotifyStopping)
			return
		case <-watchdog:
			if a.Alive() {
				say(log, daemon.SdNotifyWatchdog)
			}
			continue
		case <-a.Changes():
		}
		s := a.Brief()
		if s.Ready != wasReady {
			wasReady = s.Ready
			announce(log, s.Ready, s.NotReady)
		}
		if s.Ready && told.CompareAndSwap(false, true) {
			say(log, daemon.SdNotifyReady)
			debug.FreeOSMemory() // return memory that only the start needed
		}
		say(log, fmt.Sprintf("STATUS=%s", summary(s)))
	}
}

func announce(log *slog.Logger, ready bool, reasons []string) {
	if ready {
		log.Info("ready: every token is valid and every sink holds it")
		return
	}
	log.Warn("not ready any more", "reasons", reasons)
}

// watchdogTicks ticks at half the service manager's watchdog timeout; never, if it has no watchdog.
func watchdogTicks(log *slog.Logger) <-chan time.Time {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("watchdog settings of the service manager cannot be read", "error", err)
	}
	if interval == 0 {
		return nil
	}
	return time.Tick(interval / 2)
}

// notifyTimeout is how long a service manager may take to accept a message.
const notifyTimeout = 100 * time.Millisecond

func say(log *slog.Logger, state string) {
	if err := sendNotify(os.Getenv("NOTIFY_SOCKET"), state); err != nil {
		log.Warn("cannot notify service manager", "error", err)
	}
}

// sendNotify sends a message to the service manager's socket, if there is one (sd_notify(3)). A socket that is gone
// or full delays nothing.
func sendNotify(socket, state string) error {
	if socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("connecting to $NOTIFY_SOCKET: %w", causeOf(err))
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(notifyTimeout)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("writing to $NOTIFY_SOCKET: %w", causeOf(err))
	}
	return nil
}
