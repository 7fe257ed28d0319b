//go:build !unix

package process

import "os"

// systemSignals are those that not every system has.
var systemSignals = map[string]os.Signal{}
