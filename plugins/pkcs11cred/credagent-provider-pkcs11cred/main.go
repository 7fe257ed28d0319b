// Command credagent-provider-pkcs11cred is the credential provider for keys on PKCS#11 tokens. The
// agent starts it.
package main

import (
	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/pkcs11cred"
)

func main() { plugins.Serve(pkcs11cred.New()) }
