package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/credagent/credagent/internal/samefile"
	"github.com/credagent/credagent/sink"
)

// providerPrefix starts the file name of an external provider.
const providerPrefix = "credagent-provider-"

const (
	outputHint    = "give the output a path of its own"
	ownSecretHint = "give each a Secret of its own"
)

// use is a file and the place in the configuration that names it.
type use struct {
	path   string // in the configuration; "" for the configuration itself
	file   string
	client string // that reads it; "" for none
	sink   *Sink  // that is written there; nil for none
}

// outputs returns the files that credagent writes for others.
func (c *Config) outputs() []use {
	var all []use
	if c.Socket != nil {
		all = append(all, use{path: "socket.path", file: c.Socket.Path})
	}
	if c.Identity != nil {
		all = append(all, use{path: "identity_endpoint.header_file", file: c.Identity.HeaderFile})
	}
	for i := range c.Sinks {
		all = append(all, c.Sinks[i].output())
	}
	return slices.DeleteFunc(all, func(u use) bool { return u.file == "" })
}

// inputs returns the files that are read or run because of the configuration. Other files that a provider reads are
// known only to the provider.
func (c *Config) inputs() []use {
	var all []use
	if c.variables == nil && c.Source != "" { // otherwise it is no file
		if source, err := filepath.Abs(c.Source); err == nil {
			all = append(all, use{file: source})
		}
	}
	if c.State != nil {
		all = append(all, use{path: "state.key_file", file: c.State.KeyFile})
	}
	for _, client := range c.Clients {
		all = append(all, c.inputsOf(client)...)
	}
	for i := range c.Sinks {
		all = append(all, c.Sinks[i].inputs()...)
	}
	return all
}

// inputsOf are the files that a client's requests depend on: what is read for them, and the programs.
func (c *Config) inputsOf(client Client) []use {
	return append(client.inputs(), c.programs(client)...)
}

// inputs are the files that are read for a client's requests.
func (c Client) inputs() []use {
	all := []use{{path: join(join("clients", c.Name), "ca_file"), file: c.CAFile}}
	for _, credential := range c.credentials() {
		all = append(all, credential.files()...)
	}
	for i := range all {
		all[i].client = c.Name
	}
	return all
}

// programs are the files that a client's providers could be.
func (c *Config) programs(client Client) []use {
	var all []use
	for _, credential := range client.credentials() {
		for _, dir := range c.Plugins.Dirs {
			all = append(all, use{path: join(credential.Path, "provider"), file: filepath.Join(dir, providerPrefix+credential.Provider), client: client.Name})
		}
	}
	return all
}

// at is where the sink is in messages.
func (s *Sink) at() string { return cmp.Or(s.Place, fmt.Sprintf("sinks[%q]", s.Path)) }

// OutputKey is the key in the configuration that names what the sink writes, for messages.
func (s *Sink) OutputKey() string {
	if s.IsFile() {
		return join(s.at(), "path")
	}
	return join(s.at(), "name")
}

// output is the file that the sink writes; "" for a Secret, which has a name instead.
func (s *Sink) output() use {
	u := use{path: s.OutputKey(), sink: s}
	if s.IsFile() {
		u.file = s.Path
	}
	return u
}

// inputs are the files that the sink's actions read or run.
func (s *Sink) inputs() []use {
	var all []use
	for i, a := range s.OnChange {
		at := index(join(s.at(), "on_change"), i)
		if a.Signal != nil {
			all = append(all, use{path: join(join(at, "signal"), "pid_file"), file: a.Signal.PIDFile})
		}
		if a.Command != nil && len(a.Command.Run) > 0 {
			all = append(all, use{path: join(join(at, "command"), "run"), file: a.Command.Run[0]})
		}
	}
	return all
}

// places finds uses of one file, however they are spelled. What is no absolute path is no file: a sink of a
// program's own need not be one.
type places struct {
	find samefile.Finder
	used map[samefile.ID][]use
}

func (p *places) add(all ...use) {
	if p.used == nil {
		p.used = map[samefile.ID][]use{}
	}
	for _, u := range all {
		if filepath.IsAbs(u.file) {
			id := p.find.Of(u.file)
			p.used[id] = append(p.used[id], u)
		}
	}
}

func (p *places) of(u use) []use {
	if len(p.used) == 0 || !filepath.IsAbs(u.file) {
		return nil
	}
	return p.used[p.find.Of(u.file)]
}

// ApartSink returns a problem for each file that a sink would be written over, or that its actions depend on
// and something is written over, by what [Load] refuses a file for. It may take the place of the
// configuration's sink of its path.
func (c *Config) ApartSink(s Sink) []Problem {
	others := *c
	others.Sinks = slices.DeleteFunc(slices.Clone(c.Sinks), func(other Sink) bool { return other.Path == s.Path })
	var taken, read places
	taken.add(others.outputs()...)
	taken.add(others.inputs()...)
	alone := Config{Sinks: []Sink{s}, Source: c.Source, variables: c.variables, positions: c.positions}
	var problems []Problem
	if c.State != nil && c.State.Dir != "" {
		problems = alone.Inside([]string{c.State.Dir})
	}
	if !s.IsFile() && s.Path == c.State.secretPath() {
		problem := c.Problem(s.OutputKey(), "the same Secret as state.kubernetes_secret.name")
		problem.Hint = ownSecretHint
		problems = append(problems, problem)
	}
	out := alone.Sinks[0].output()
	for _, other := range taken.of(out) {
		problems = append(problems, c.overwritten(out, other)...)
	}
	read.add(s.inputs()...)
	for _, out := range append(others.outputs(), out) {
		for _, in := range read.of(out) {
			problems = append(problems, c.overwritten(out, in)...)
		}
	}
	return problems
}

// ApartClient returns a problem for each output that is a file which a client depends on, by what [Load]
// refuses a file for. Of what its provider reads beside them, the provider is to be asked.
func (c *Config) ApartClient(client Client) []Problem {
	var read places
	read.add(client.inputs()...)
	for _, program := range c.programs(client) {
		if _, err := os.Stat(program.file); err == nil { // usually there is none: the provider is a built-in one
			read.add(program)
		}
	}
	if len(read.used) == 0 { // no need to list the outputs, of which there may be thousands
		return nil
	}
	var problems []Problem
	for _, out := range c.outputs() {
		for _, in := range read.of(out) {
			problems = append(problems, c.overwritten(out, in)...)
		}
	}
	return problems
}

// overwritten is the problem of an output that is the file of another use, unless that is meant to be.
func (c *Config) overwritten(out, other use) []Problem {
	if c.chained(other, out) {
		return nil
	}
	message := "this is the configuration itself, which would be overwritten"
	if other.path != "" {
		message = "the same file as " + other.path
	}
	problem := c.Problem(out.path, message)
	problem.Hint = outputHint
	return []Problem{problem}
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
			all = append(all, use{path: path, file: filepath.Clean(v)})
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
	var written places
	for _, out := range c.outputs() {
		if before := written.of(out); len(before) == 0 {
			written.add(out)
		} else if !v.silenced[out.path] {
			v.hinted(out.path, outputHint, "the same file as %s", v.place(before[0].path))
		}
	}
	read := c.inputs()
	if c.State != nil && c.State.Dir != "" {
		for _, t := range c.Tokens {
			read = append(read, use{path: "state.dir", file: filepath.Join(c.State.Dir, t.Name+".age")})
		}
	}
	for _, in := range read {
		for _, out := range written.of(in) {
			if !v.silenced[out.path] && !c.chained(in, out) {
				v.hinted(out.path, outputHint, "%s, which would be overwritten", v.reads(in))
			}
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
	if s := out.sink; s == nil || s.Type != SinkFile || s.Format != sink.FormatRaw {
		return false
	}
	t := slices.IndexFunc(c.Tokens, func(t Token) bool { return t.Name == out.sink.Token })
	return t >= 0 && c.Tokens[t].Client != in.client
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
