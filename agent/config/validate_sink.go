package config

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/credagent/credagent/sink"
)

var sinkTypes = map[string]SinkType{"file": SinkFile, "env": SinkEnv, "kubernetes_secret": SinkKubernetesSecret}

// formats are those of a file sink, by their names.
func formats() map[string]sink.Format {
	all := map[string]sink.Format{}
	for _, f := range sink.Formats() {
		all[string(f)] = f
	}
	return all
}

// fields are the fields of a token's JSON form that an env sink can use.
var fields = []string{"access_token", "client_id", "expires_on", "expiry", "refresh_on", "scope", "token", "token_type"}

// signals are the signals that may ask a program to reload or stop.
var signals = []string{"ALRM", "CONT", "HUP", "INT", "KILL", "QUIT", "TERM", "USR1", "USR2", "WINCH"}

func (v *validator) sinks() []Sink {
	var sinks []Sink
	for i, raw := range v.raw.Sinks {
		if path := index("sinks", i); v.mapped(path) {
			sinks = append(sinks, v.sink(path, raw))
		}
	}
	return sinks
}

func (v *validator) sink(path string, raw rawSink) Sink {
	s := Sink{
		Place:    path,
		Mode:     v.mode(join(path, "mode"), raw.Mode),
		Owner:    v.account(join(path, "owner"), raw.Owner),
		Group:    v.account(join(path, "group"), raw.Group),
		Readers:  v.principals(join(path, "readers"), raw.Readers),
		OnChange: v.actions(join(path, "on_change"), raw.OnChange),
	}
	if _, ok := v.required(path, "type", raw.Type); ok {
		s.Type = oneOf(v, join(path, "type"), raw.Type, choice[SinkType]{words: sinkTypes})
	}
	if s.Type == SinkKubernetesSecret {
		v.secretSink(path, raw, &s)
		return s
	}
	v.sinkPath(path, raw, &s)
	switch s.Type {
	case SinkFile:
		v.fileSink(path, raw, &s)
	case SinkEnv:
		v.envSink(path, raw, &s)
	}
	v.suits(path, s)
	return s
}

// sinkPath reads the path of a file, and refuses keys that only a Secret has.
func (v *validator) sinkPath(path string, raw rawSink, s *Sink) {
	if s.Path = v.file(path, "path", raw.Path); s.Path != "" {
		v.writes(join(path, "path"), s.Path)
	}
	if strings.HasSuffix(raw.Path.value, "/") && s.Path != "" || s.Path == "/" {
		v.problem(join(path, "path"), "%v is a directory, want a file", raw.Path)
	}
	if strings.HasPrefix(filepath.Base(s.Path), ".credagent-") {
		v.problem(join(path, "path"), "names that start with .credagent- are credagent's own temporary files")
	}
	v.notWith(path, "a file", map[string]bool{
		"namespace": raw.Namespace.set, "name": raw.Name.set, "secret_type": raw.SecretType.set, "preset": raw.Preset.set,
		"username": raw.Username.set, "url": raw.URL.set, "registry": raw.Registry.set, "data": raw.Data != nil, "labels": raw.Labels != nil,
	})
}

// IsFile reports whether the sink is a file.
func (s Sink) IsFile() bool { return s.Secret == nil }

func (v *validator) fileSink(path string, raw rawSink, s *Sink) {
	v.notWith(path, "a file sink", map[string]bool{"variables": raw.Variables != nil})
	if s.Format = oneOf(v, join(path, "format"), raw.Format, choice[sink.Format]{formats(), "raw"}); v.silenced[join(path, "format")] {
		return
	}
	if s.Format == sink.FormatTemplate {
		v.notWith(path, "a template", map[string]bool{"token": raw.Token.set})
		s.Template = v.template(path, raw.Template)
		return
	}
	v.notWith(path, "format "+string(s.Format), map[string]bool{"template": raw.Template.set})
	s.Token = v.tokenName(path, "token", raw.Token)
}

func (v *validator) template(path string, t text) string {
	if !t.set {
		v.missing(path, "template")
	}
	if !t.ok() {
		return ""
	}
	at := join(path, "template")
	names, err := templateTokens(t.value)
	switch {
	case err != nil && t.fromEnv:
		v.problem(at, "not a valid template") // the cause would show the variable's value
	case err != nil:
		v.templateProblem(at, err)
	case len(names) == 0:
		v.hinted(at, `such as {{ (token "NAME").AccessToken }}`, "a template that uses no token")
	}
	for _, name := range names {
		source := name
		if t.fromEnv {
			source = "${…}" // the name may be a part of the variable's value
		}
		v.known(at, "token", text{value: name, source: source, fromEnv: t.fromEnv}, v.tokenNames)
	}
	return t.value
}

// templateProblem points to the line within the template, if the file has it as a block.
func (v *validator) templateProblem(at string, err error) {
	var mistake *sink.TemplateError
	if !errors.As(err, &mistake) {
		v.problem(at, "%v", err)
		return
	}
	text, position := mistake.Text(), locate(v.positions, at)
	if first := v.blocks[at]; first != 0 && mistake.Line != 0 {
		text, position = mistake.Message, Position{Line: first + mistake.Line - 1, Column: 1}
	}
	v.silenced[at] = true
	v.problemAt(position, v.name(at), mistake.Hint, "parsing template: "+text)
}

func templateTokens(text string) ([]string, error) {
	renderer, err := sink.Template(text)
	if err != nil {
		return nil, err
	}
	return renderer.Tokens(), nil
}

func (v *validator) envSink(path string, raw rawSink, s *Sink) {
	v.notWith(path, "an env sink", map[string]bool{
		"token": raw.Token.set, "format": raw.Format.set, "template": raw.Template.set,
	})
	if len(raw.Variables) == 0 {
		v.missing(path, "variables")
	}
	for _, name := range sortedKeys(raw.Variables) {
		at := join(join(path, "variables"), name)
		if !isVariableName(name) {
			v.problem(at, "%s is not the name of an environment variable", quote(name))
			continue
		}
		if _, ok := v.required(join(path, "variables"), name, raw.Variables[name]); ok {
			s.Variables = append(s.Variables, v.variable(name, at, raw.Variables[name]))
		}
	}
}

// variable reads token or token.field. A token's name may contain dots, so the whole text is tried as a name first.
func (v *validator) variable(name, path string, t text) Variable {
	line := Variable{Name: name, Token: t.value}
	if _, whole := v.raw.Tokens[t.value]; !whole {
		line.Token, line.Field = cutLast(t.value)
		t.value = line.Token
	}
	if !v.known(path, "token", t, v.tokenNames) {
		return line
	}
	if line.Field != "" && !slices.Contains(fields, line.Field) {
		v.hinted(path, "one of "+strings.Join(fields, ", "), "%v asks for a field that a token does not have", t)
		return line
	}
	if _, err := sink.Env([]sink.Variable{line}); err != nil {
		v.problem(path, "%v", err)
	}
	return line
}

func cutLast(s string) (token, field string) {
	if dot := strings.LastIndexByte(s, '.'); dot >= 0 && dot < len(s)-1 {
		return s[:dot], s[dot+1:]
	}
	return s, ""
}

// notWith reports given keys that do not belong with what.
func (v *validator) notWith(path, what string, given map[string]bool) {
	for _, key := range sortedKeys(given) {
		if given[key] {
			v.problem(join(path, key), "%s does not belong to %s", key, what)
		}
	}
}

func (v *validator) actions(path string, raw []rawAction) []Action {
	var actions []Action
	for i, a := range raw {
		at := index(path, i)
		if (a.Signal == nil) == (a.Command == nil) && v.mapped(at) {
			v.problem(at, "want exactly one of signal and command")
			continue
		}
		actions = append(actions, Action{
			Signal:  v.signal(join(at, "signal"), a.Signal),
			Command: v.command(join(at, "command"), a.Command),
		})
	}
	return actions
}

func (v *validator) signal(path string, raw *rawSignal) *Signal {
	if raw == nil || !v.mapped(path) {
		return nil
	}
	s := &Signal{PIDFile: v.file(path, "pid_file", raw.PIDFile)}
	value, ok := v.required(path, "signal", raw.Signal)
	if !ok {
		return s
	}
	s.Signal = strings.TrimPrefix(strings.ToUpper(value), "SIG")
	if !slices.Contains(signals, s.Signal) {
		v.problem(join(path, "signal"), "unknown signal %v, want one of %s", raw.Signal, strings.Join(signals, ", "))
	}
	return s
}

func (v *validator) command(path string, raw *rawCommand) *Command {
	if raw == nil || !v.mapped(path) {
		return nil
	}
	c := &Command{Timeout: v.duration(join(path, "timeout"), raw.Timeout,
		limits{100 * time.Millisecond, 10 * time.Minute, defaultCommandTimeout})}
	if len(raw.Run) == 0 {
		v.missing(path, "run")
	}
	for i, word := range raw.Run {
		switch {
		case i == 0 && word.ok() && word.value == "":
			v.problem(index(join(path, "run"), i), "empty, want a program")
		case i == 0 && strings.Contains(word.value, "/") && !filepath.IsAbs(word.value):
			v.problem(index(join(path, "run"), i), "%v is neither a program's name nor an absolute path", word)
		case strings.ContainsRune(word.value, 0):
			v.problem(index(join(path, "run"), i), "a zero byte in an argument")
		}
		c.Run = append(c.Run, word.value)
	}
	return c
}
