package delivery

import (
	"fmt"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/sink"
)

// Opener returns what opens the sinks of one configuration in the file system.
func Opener() func(config.Sink) (sink.Sink, error) {
	batch := new(sink.Batch)
	return func(cfg config.Sink) (sink.Sink, error) {
		renderer, err := rendererOf(cfg)
		if err != nil {
			return nil, err
		}
		return batch.New(sink.Options{
			Path: cfg.Path, Mode: cfg.Mode, Owner: cfg.Owner, Group: cfg.Group, Readers: cfg.Readers, Renderer: renderer,
		})
	}
}

func rendererOf(cfg config.Sink) (sink.Renderer, error) {
	switch {
	case cfg.Type == config.SinkEnv:
		return sink.Env(cfg.Variables)
	case cfg.Format == sink.FormatTemplate:
		return sink.Template(cfg.Template)
	}
	renderer := cfg.Format.Of(cfg.Token)
	if renderer == nil {
		return nil, fmt.Errorf("format %q is unknown", cfg.Format)
	}
	return renderer, nil
}
