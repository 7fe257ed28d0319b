package agent

import (
	"github.com/credagent/credagent/agent/delivery"
)

// Environ returns what `credagent exec` puts into its command's environment: NAME=value for each
// variable. It holds tokens in the clear.
func (a *Agent) Environ() ([]string, error) {
	variables, err := a.parts.Load().cfg.ForCommand()
	if err != nil {
		return nil, err
	}
	return delivery.Environ(variables, a.token)
}

// Refused returns why a command cannot be started, once waiting alone will not help: something was
// refused, and everything else has had its first answer. The error is one of [Agent.Once]; it is nil
// while waiting may help, and when everything is ready.
func (a *Agent) Refused() error {
	if a.Brief().Ready || !a.settled() {
		return nil
	}
	return a.missing()
}
