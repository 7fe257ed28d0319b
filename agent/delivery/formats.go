package delivery

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/kubeapi"
	"github.com/credagent/credagent/internal/kubesecret"
	"github.com/credagent/credagent/sink"
)

// Opener returns begin, which returns what opens the sinks of one configuration: files, and Secrets of a Kubernetes
// cluster. Call it anew for each configuration. The Secrets of all configurations share a connection and a watch, which
// end closes.
func Opener(log *slog.Logger) (begin func() func(config.Sink) (sink.Sink, error), end func()) {
	o := &outputs{log: log}
	return o.opener, o.close
}

// outputs is what sinks share.
type outputs struct {
	log *slog.Logger

	mu      sync.Mutex
	cluster *kubesecret.Cluster // guarded by mu; nil before the first Secret
}

func (o *outputs) opener() func(config.Sink) (sink.Sink, error) {
	batch := new(sink.Batch)
	return func(cfg config.Sink) (sink.Sink, error) {
		if cfg.IsFile() {
			return openFile(batch, cfg)
		}
		return openSecret(o.secrets(), *cfg.Secret)
	}
}

func (o *outputs) secrets() *kubesecret.Cluster {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cluster == nil {
		o.cluster = kubesecret.NewCluster(kubeapi.New(kubeapi.Options{}), o.log)
	}
	return o.cluster
}

// close ends requests under way and the watch of Secrets.
func (o *outputs) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cluster != nil {
		o.cluster.Close()
	}
}

func openSecret(cluster *kubesecret.Cluster, cfg config.Secret) (sink.Sink, error) {
	options := kubesecret.Options{Namespace: cfg.Namespace, Name: cfg.Name, Type: cfg.Type, Labels: cfg.Labels}
	for _, v := range cfg.Values {
		renderer, err := v.Renderer()
		if err != nil {
			return nil, err
		}
		options.Data = append(options.Data, kubesecret.Value{Key: v.Key, Renderer: renderer})
	}
	return cluster.Open(options)
}

func openFile(batch *sink.Batch, cfg config.Sink) (sink.Sink, error) {
	renderer, err := rendererOf(cfg)
	if err != nil {
		return nil, err
	}
	return batch.New(sink.Options{
		Path: cfg.Path, Mode: cfg.Mode, Owner: cfg.Owner, Group: cfg.Group, Readers: cfg.Readers, Renderer: renderer,
	})
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
