// Command credagent-provider-ownsecret is an external provider: secretcred under another name, in a
// binary of its own.
package main

import (
	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/secretcred"
)

func main() { plugins.Serve(secretcred.Provider{}) }
