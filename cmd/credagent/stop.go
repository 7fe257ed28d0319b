package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// stopTimeout is how long after a request to stop the process ends in any case. Normally the agent gives up earlier
// on calls that do not return.
const stopTimeout = 4 * time.Second

// endInTime ends the process if it is still running some time after ctx ended. A file system that does not answer may
// block any call, even one before there is an agent to stop.
func endInTime(ctx context.Context, stderr io.Writer) (cancel func() bool) {
	return context.AfterFunc(ctx, func() {
		time.AfterFunc(stopTimeout, func() {
			fmt.Fprintln(stderr, "credagent: told to stop, but something does not answer, likely a file system; ending all the same")
			if o, ok := stderr.(*errorOutput); ok {
				o.finish()
			}
			os.Exit(exitNoToken)
		})
	})
}
