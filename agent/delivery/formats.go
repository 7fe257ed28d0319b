package delivery

import (
	"fmt"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/sink"
)

// Opener returns a function that opens the sinks of one configuration in the file system.
func Opener() func(config.Sink) (Sink, error) {
	batch := new(sink.Batch)
	return func(cfg config.Sink) (Sink, error) { return openFile(batch, cfg) }
}

// Environ returns the environment of a command, with variables that contain tokens.
func Environ(variables []config.Variable, lookup sink.Lookup) ([]string, error) {
	return sink.Environ(sinkVariables(variables), lookup)
}

func openFile(batch *sink.Batch, cfg config.Sink) (Sink, error) {
	renderer, err := rendererOf(cfg)
	if err != nil {
		return nil, err
	}
	options := sink.Options{
		Path: cfg.Path, Mode: cfg.Mode, Owner: cfg.Owner, Group: cfg.Group, Renderer: renderer,
	}
	for _, reader := range cfg.Readers {
		options.Readers = append(options.Readers, sink.Principal(reader))
	}
	return batch.New(options)
}

func sinkVariables(all []config.Variable) []sink.Variable {
	variables := make([]sink.Variable, len(all))
	for i, v := range all {
		variables[i] = sink.Variable(v)
	}
	return variables
}

func rendererOf(cfg config.Sink) (sink.Renderer, error) {
	if cfg.Type == config.SinkEnv {
		return sink.Env(sinkVariables(cfg.Variables))
	}
	switch cfg.Format {
	case config.FormatRaw:
		return sink.Raw(cfg.Token), nil
	case config.FormatJSON:
		return sink.JSON(cfg.Token), nil
	case config.FormatHeader:
		return sink.Header(cfg.Token), nil
	case config.FormatTemplate:
		return sink.Template(cfg.Template)
	case config.FormatExecCredential:
		return sink.ExecCredential(cfg.Token), nil
	case config.FormatEnvoySDS:
		return sink.EnvoySDS(cfg.Token), nil
	}
	return nil, fmt.Errorf("format %q is unknown", cfg.Format)
}
