package agent

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/samefile"
	"github.com/credagent/credagent/sink"
)

// use is a file, and what names it.
type use struct {
	at, file string
	client   string       // that reads it; "" for a file that no client reads
	sink     *config.Sink // that is written there; nil for none
}

// sinkApart says which file that is read, or written by others, a sink would be written over: what a
// configuration file is refused for. It looks at the files of all clients and sinks.
func (a *Agent) sinkApart(s config.Sink) []config.Problem {
	all := a.parts.written()
	alone := *all
	alone.Socket, alone.Identity, alone.Sinks = nil, nil, []config.Sink{s}
	taken := slices.DeleteFunc(outputs(all), func(u use) bool { return u.sink != nil && u.file == s.Path })
	var problems []config.Problem
	if all.State != nil {
		taken = append(taken, use{at: "state.key_file", file: all.State.KeyFile})
		problems = alone.Inside([]string{all.State.Dir})
	}
	for _, c := range a.parts.running() {
		taken = append(taken, inputs(c.cfg)...)
		problems = append(problems, c.client.Overwritten(&alone)...)
	}
	return append(problems, a.clashes(outputs(&alone), taken)...)
}

// clientApart says which outputs are files that a client's configuration names: of those that its provider
// reads beside them, the provider is asked.
func (a *Agent) clientApart(c config.Client, written *config.Config) []config.Problem {
	if read := inputs(&c); len(read) > 0 {
		return a.clashes(outputs(written), read)
	}
	return nil
}

// clashes says which outputs are files that are taken, however they are spelled.
func (a *Agent) clashes(outputs, taken []use) []config.Problem {
	find := new(samefile.Finder)
	known := map[samefile.ID][]use{}
	for _, in := range taken {
		if filepath.IsAbs(in.file) {
			id := find.Of(in.file)
			known[id] = append(known[id], in)
		}
	}
	var problems []config.Problem
	for _, out := range outputs {
		if len(known) == 0 || !filepath.IsAbs(out.file) { // a sink of the program's own need be no file
			continue
		}
		for _, in := range known[find.Of(out.file)] {
			if !a.chained(in, out) {
				problems = append(problems, config.Problem{Path: out.at, Message: "the same file as " + in.at, Hint: "give the output a path of its own"})
			}
		}
	}
	return problems
}

// chained allows what is meant to be: one client's assertion is the token of another client.
func (a *Agent) chained(in, out use) bool {
	s := out.sink
	if s == nil || s.Type != config.SinkFile || s.Format != sink.FormatRaw ||
		!strings.HasSuffix(in.at, ".assertion_file") && !strings.HasSuffix(in.at, ".subject_token_file") {
		return false
	}
	t := a.parts.token(s.Token)
	return t == nil || t.cfg.Client != in.client
}

// outputs are the files that the agent writes for others.
func outputs(cfg *config.Config) []use {
	var all []use
	if cfg.Socket != nil {
		all = append(all, use{at: "socket.path", file: cfg.Socket.Path})
	}
	if cfg.Identity != nil {
		all = append(all, use{at: "identity_endpoint.header_file", file: cfg.Identity.HeaderFile})
	}
	for i := range cfg.Sinks {
		s := &cfg.Sinks[i]
		all = append(all, use{at: cmp.Or(s.Place, fmt.Sprintf("sinks[%q]", s.Path)) + ".path", file: s.Path, sink: s})
	}
	return all
}

// inputs are the files that the configuration of a client names.
func inputs(c *config.Client) []use {
	all := []use{{at: "clients." + c.Name + ".ca_file", file: c.CAFile}}
	all = append(all, pathsOf(c.Credential)...)
	if c.FallbackCredential != nil {
		all = append(all, pathsOf(*c.FallbackCredential)...)
	}
	for i := range all {
		all[i].client = c.Name
	}
	return slices.DeleteFunc(all, func(u use) bool { return u.file == "" })
}

// pathsOf are the absolute paths in a provider's configuration, whatever its keys mean.
func pathsOf(c config.Credential) []use {
	var values any
	if json.Unmarshal(c.Config, &values) != nil {
		return nil
	}
	return pathsIn(c.Path+".config", values)
}

func pathsIn(at string, value any) []use {
	var all []use
	switch v := value.(type) {
	case string:
		if file := strings.TrimPrefix(v, "unix://"); filepath.IsAbs(file) {
			all = append(all, use{at: at, file: filepath.Clean(file)})
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			all = append(all, pathsIn(at+"."+key, v[key])...)
		}
	case []any:
		for i, item := range v {
			all = append(all, pathsIn(fmt.Sprintf("%s[%d]", at, i), item)...)
		}
	}
	return all
}
