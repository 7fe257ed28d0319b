package config

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/credagent/credagent/internal/samefile"
	"github.com/credagent/credagent/sink"
)

// providerPrefix starts the file name of an external provider.
const providerPrefix = "credagent-provider-"

const outputHint = "give the output a path of its own"

// use is a file and the place in the configuration that names it.
type use struct {
	path string // in the configuration
	file string
}

// outputs returns the files that credagent writes for others.
func (c *Config) outputs() []use {
	var all []use
	if c.Socket != nil {
		all = append(all, use{"socket.path", c.Socket.Path})
	}
	if c.Identity != nil {
		all = append(all, use{"identity_endpoint.header_file", c.Identity.HeaderFile})
	}
	for _, s := range c.Sinks {
		all = append(all, use{join(s.Place, "path"), s.Path})
	}
	return slices.DeleteFunc(all, func(u use) bool { return u.file == "" })
}

// inputs returns the files that are read or run because of the configuration. Other files that a provider reads are
// known only to the provider.
func (c *Config) inputs() []use {
	var all []use
	if c.variables == nil { // otherwise the source is the environment
		if source, err := filepath.Abs(c.Source); err == nil {
			all = append(all, use{"", source})
		}
	}
	if c.State != nil {
		all = append(all, use{"state.key_file", c.State.KeyFile})
		for _, t := range c.Tokens {
			all = append(all, use{"state.dir", filepath.Join(c.State.Dir, t.Name+".age")})
		}
	}
	for _, client := range c.Clients {
		all = append(all, use{join(join("clients", client.Name), "ca_file"), client.CAFile})
		for _, credential := range client.credentials() {
			all = append(all, credential.files()...)
			for _, dir := range c.Plugins.Dirs {
				all = append(all, use{join(credential.Path, "provider"), filepath.Join(dir, providerPrefix+credential.Provider)})
			}
		}
	}
	for _, s := range c.Sinks {
		for i, a := range s.OnChange {
			at := index(join(s.Place, "on_change"), i)
			if a.Signal != nil {
				all = append(all, use{join(at, "signal.pid_file"), a.Signal.PIDFile})
			}
			if a.Command != nil && len(a.Command.Run) > 0 {
				all = append(all, use{join(at, "command.run"), a.Command.Run[0]})
			}
		}
	}
	return slices.DeleteFunc(all, func(u use) bool { return !filepath.IsAbs(u.file) })
}

func (c Client) credentials() []Credential {
	all := []Credential{c.Credential}
	if c.FallbackCredential != nil {
		all = append(all, *c.FallbackCredential)
	}
	return all
}

// files returns the absolute paths in the provider's configuration, whatever its keys mean.
func (c Credential) files() []use {
	var value any
	if json.Unmarshal(c.Config, &value) != nil {
		return nil
	}
	return pathsIn(join(c.Path, "config"), value)
}

func pathsIn(path string, value any) []use {
	var all []use
	switch v := value.(type) {
	case string:
		v = strings.TrimPrefix(v, "unix://")
		if filepath.IsAbs(v) {
			all = append(all, use{path, filepath.Clean(v)})
		}
	case map[string]any:
		for _, key := range sortedKeys(v) {
			all = append(all, pathsIn(join(path, key), v[key])...)
		}
	case []any:
		for i, item := range v {
			all = append(all, pathsIn(index(path, i), item)...)
		}
	}
	return all
}

// separateOutputs refuses an output that is a file which the configuration reads, or another output,
// however it is spelled.
func (v *validator) separateOutputs(c *Config) {
	find := new(samefile.Finder)
	written := map[samefile.ID]use{}
	for _, out := range c.outputs() {
		id := find.Of(out.file)
		if first, taken := written[id]; !taken {
			written[id] = out
		} else if !v.silenced[out.path] {
			v.hinted(out.path, outputHint, "the same file as %s", v.place(first.path))
		}
	}
	for _, in := range c.inputs() {
		out, taken := written[find.Of(in.file)]
		if taken && !v.silenced[out.path] && !c.chained(in, out) {
			v.hinted(out.path, outputHint, "%s, which would be overwritten", v.reads(in))
		}
	}
}

// ownFiles refuses an output among the agent's own files, in the state's directory or below it: they hold what it
// remembers about servers, tokens and other commands on the host.
func (v *validator) ownFiles(c *Config) {
	if c.State == nil || c.State.Dir == "" {
		return
	}
	for _, out := range c.inside(c.State.Dir) {
		if !v.silenced[out.path] {
			v.hinted(out.path, outputHint, "in the directory of %s, where the agent has files of its own", v.place("state.dir"))
		}
	}
}

// Inside returns a problem for each output in one of the directories, which are the agent's own, or below it.
func (c *Config) Inside(dirs []string) []Problem {
	var problems []Problem
	for _, dir := range dirs {
		for _, out := range c.inside(dir) {
			problem := c.Problem(out.path, fmt.Sprintf("in %s, where the agent has files of its own", quote(dir)))
			problem.Hint = outputHint
			problems = append(problems, problem)
		}
	}
	return problems
}

// inside returns the outputs in a directory or below it, however their paths are spelled.
func (c *Config) inside(dir string) []use {
	find := new(samefile.Finder)
	own := find.Of(dir)
	return slices.DeleteFunc(c.outputs(), func(out use) bool {
		for above := filepath.Dir(out.file); ; above = filepath.Dir(above) {
			if find.Of(above) == own {
				return false
			}
			if above == filepath.Dir(above) {
				return true
			}
		}
	})
}

func (v *validator) reads(in use) string {
	if in.path == "" {
		return "this is the configuration itself"
	}
	return "the same file as " + v.place(in.path)
}

// chained allows the one intended case: one client's assertion is the token of another client.
func (c *Config) chained(in, out use) bool {
	if !strings.HasSuffix(in.path, ".assertion_file") && !strings.HasSuffix(in.path, ".subject_token_file") {
		return false
	}
	i := slices.IndexFunc(c.Sinks, func(s Sink) bool { return join(s.Place, "path") == out.path })
	if i < 0 || c.Sinks[i].Type != SinkFile || c.Sinks[i].Format != sink.FormatRaw {
		return false
	}
	t := slices.IndexFunc(c.Tokens, func(t Token) bool { return t.Name == c.Sinks[i].Token })
	return t >= 0 && !strings.HasPrefix(in.path, join("clients", c.Tokens[t].Client)+".")
}

// Overwritten returns a problem for each output that is one of the files that a credential depends on, according to
// its provider. Those named in its configuration have been checked before.
func (c *Config) Overwritten(credential Credential, files []string) []Problem {
	judged := map[string]bool{}
	for _, in := range credential.files() {
		judged[in.file] = true
	}
	files = slices.DeleteFunc(slices.Clone(files), func(file string) bool { return judged[filepath.Clean(file)] })
	if len(files) == 0 {
		return nil
	}
	find := new(samefile.Finder)
	read := map[samefile.ID]string{}
	for _, file := range files {
		read[find.Of(file)] = file
	}
	var problems []Problem
	for _, out := range c.outputs() {
		if file, taken := read[find.Of(out.file)]; taken {
			problem := c.Problem(out.path, fmt.Sprintf("the same file as %s, which the provider of %s reads; it would be overwritten", quote(file), credential.Path))
			problem.Hint = outputHint
			problems = append(problems, problem)
		}
	}
	return problems
}
