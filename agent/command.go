package agent

import (
	"errors"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/sink"
)

// Environ returns what `credagent exec` puts into its command's environment: NAME=value for each
// variable. It holds tokens in the clear.
func (a *Agent) Environ() ([]string, error) {
	variables, err := a.parts.config().ForCommand()
	if err != nil {
		return nil, err
	}
	return sink.Environ(variables, a.token)
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

// Unwritable returns the env files that cannot hold the tokens there are, whose variables a command has
// in its environment all the same, and an error for other files that cannot: waiting does not help.
func (a *Agent) Unwritable() (envFiles []string, err error) {
	var errs []error
	for _, s := range a.parts.list().sinks {
		lacks, err := s.writer.Behind()
		var render *sink.RenderError
		if !lacks || !errors.As(err, &render) {
			continue
		}
		if s.cfg.Type == config.SinkEnv {
			envFiles = append(envFiles, s.path())
		} else {
			errs = append(errs, &SinkError{s.path(), err})
		}
	}
	return envFiles, errors.Join(errs...)
}
