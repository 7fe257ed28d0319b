package sink

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"text/template"
	"text/template/parse"

	"github.com/credagent/credagent/internal/secret"
)

const templateName = "template"

type templated struct {
	parsed *template.Template
	tokens []string
}

// Template renders a Go text/template. In it, token "NAME", with a literal name, has
// .AccessToken .TokenType .ExpiresOn (epoch seconds) .Expiry (RFC 3339) .Scope and .ClientID.
// The functions beside the built-in ones are json, which shows any value as JSON; base64, the
// standard alphabet with padding; and quote, a string in double quotes with JSON's backslash
// escapes, which YAML and most INI dialects read too.
func Template(text string) (Renderer, error) {
	parsed, err := template.New(templateName).Option("missingkey=error").Funcs(template.FuncMap{
		"token":  func(string) (shown, error) { return shown{}, errors.New("called outside a rendering") },
		"json":   inJSON,
		"base64": func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
		"quote":  func(s string) (string, error) { return inJSON(s) },
	}).Parse(text)
	if err != nil {
		return nil, templateError(err.Error(), text)
	}
	names := make(map[string]bool)
	for _, t := range parsed.Templates() {
		f := finder{tree: t.Tree, names: names}
		if err := f.walk(t.Root); err != nil {
			return nil, f.explain(err, text)
		}
	}
	made := templated{parsed, slices.Sorted(maps.Keys(names))}
	return made, made.tryFields(text)
}

// shown is a token as a template sees it: only the documented fields.
type shown struct {
	AccessToken string
	TokenType   string
	ExpiresOn   int64
	Expiry      string
	Scope       string
	ClientID    string

	all form // what json shows
}

func newShown(f form) shown {
	return shown{f.AccessToken, f.TokenType, f.ExpiresOn, f.Expiry, f.Scope, f.ClientID, f}
}

var (
	hiddenField  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`([^ ]+) is an unexported field of struct type`) })
	unknownField = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`can't evaluate field ([^ ]+) in type ([^ ]+)`) })
)

// tryFields executes the template without any token's content, to find fields that no token has, because a variable's
// fields are only known at execution. Other failures may not happen with a real token.
func (t templated) tryFields(text string) error {
	forms := make(map[string]form, len(t.tokens))
	for _, name := range t.tokens {
		forms[name] = form{AccessToken: secret.Redacted, TokenType: "Bearer", Token: name}
	}
	err := t.execute(io.Discard, forms)
	if err == nil {
		return nil
	}
	if m := unknownField().FindStringSubmatch(err.Error()); m != nil {
		e := templateError(err.Error(), text)
		e.Message, e.Hint = "a token has no field ."+m[1], fieldHint(m[1])
		if m[2] != "sink.shown" {
			e.Message, e.Hint = "what is before ."+m[1]+" has no fields", "a token's fields are text and numbers; write "+example
		}
		return e
	}
	if m := hiddenField().FindStringSubmatch(err.Error()); m != nil {
		e := templateError(err.Error(), text)
		e.Message, e.Hint = "a token has no field ."+m[1], fieldHint(m[1])
		return e
	}
	if strings.Contains(err.Error(), "nil data; no entry for key") || strings.Contains(err.Error(), "nil pointer evaluating") {
		e := templateError(err.Error(), text)
		e.Message, e.Hint = "a field of nothing: no token is named before it", "write "+example
		return e
	}
	return nil
}

func inJSON(v any) (string, error) {
	if token, ok := v.(shown); ok {
		v = token.all
	}
	out, err := encode(v)
	return strings.TrimSuffix(string(out), "\n"), err
}

// atLine makes the position at the start of a text/template message (LINE or LINE:COLUMN) readable.
func atLine(message string) string {
	return strings.Replace(message, "template: "+templateName+":", "line ", 1)
}

func (t templated) Tokens() []string { return slices.Clone(t.tokens) }

func (t templated) Render(lookup Lookup) ([]byte, error) {
	forms, err := newForms(t.tokens, lookup)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if t.execute(&out, forms) != nil {
		return nil, t.explain(forms)
	}
	return out.Bytes(), nil
}

func (t templated) execute(w io.Writer, forms map[string]form) error {
	bound, err := t.parsed.Clone()
	if err != nil {
		return err
	}
	bound.Funcs(template.FuncMap{
		"token": func(name string) shown { return newShown(forms[name]) },
	})
	return bound.Execute(w, nil)
}

// explain describes why a rendering failed. The error of text/template can quote the values it worked on, so the
// reported error comes from a rendering without any token's content.
func (t templated) explain(forms map[string]form) error {
	harmless := make(map[string]form, len(forms))
	for name, f := range forms {
		f.AccessToken = secret.Redacted
		harmless[name] = f
	}
	err := t.execute(io.Discard, harmless)
	if err == nil {
		return errors.New("executing template: it does not suit the token's content, which is not shown here; look for index, slice and comparisons")
	}
	return fmt.Errorf("executing template: %s", atLine(err.Error()))
}

// finder collects the tokens that a template uses, and refuses what would fail only later.
type finder struct {
	tree  *parse.Tree
	names map[string]bool
}

func (f finder) walk(node parse.Node) error {
	switch n := node.(type) {
	case *parse.ListNode:
		return f.walkList(n)
	case *parse.ActionNode:
		return f.walkAction(n)
	case *parse.IfNode:
		return f.walkBranch(&n.BranchNode)
	case *parse.RangeNode:
		return f.walkBranch(&n.BranchNode)
	case *parse.WithNode:
		return f.walkBranch(&n.BranchNode)
	case *parse.TemplateNode:
		return f.walkPipe(n.Pipe)
	case *parse.PipeNode:
		return f.walkPipe(n)
	case *parse.ChainNode:
		return f.walkChain(n)
	case *parse.IdentifierNode:
		if n.Ident == "token" {
			return f.fault(n, `token takes one name, written out, as in (token "graph").AccessToken`)
		}
	}
	return nil
}

func (f finder) walkList(list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	for _, n := range list.Nodes {
		if err := f.walk(n); err != nil {
			return err
		}
	}
	return nil
}

func (f finder) walkAction(action *parse.ActionNode) error {
	if len(action.Pipe.Decl) == 0 && isTokenPipe(action.Pipe) {
		return f.fault(action, `a token needs a field, as in (token "graph").AccessToken`)
	}
	return f.walkPipe(action.Pipe)
}

func (f finder) walkBranch(b *parse.BranchNode) error {
	if err := f.walkPipe(b.Pipe); err != nil {
		return err
	}
	if err := f.walkList(b.List); err != nil {
		return err
	}
	return f.walkList(b.ElseList)
}

func (f finder) walkPipe(pipe *parse.PipeNode) error {
	if pipe == nil {
		return nil
	}
	for i, command := range pipe.Cmds {
		// A piped argument would be a second name, unknown before execution.
		if name, ok := tokenOf(command); ok && i == 0 {
			f.names[name] = true
			continue
		}
		for _, arg := range command.Args {
			if err := f.walk(arg); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f finder) walkChain(chain *parse.ChainNode) error {
	if pipe, ok := chain.Node.(*parse.PipeNode); ok && isTokenPipe(pipe) {
		if _, known := reflect.TypeFor[shown]().FieldByName(chain.Field[0]); !known || chain.Field[0] == "all" {
			return f.fault(chain, "a token has no field ."+chain.Field[0]+"; "+fieldHint(chain.Field[0]))
		}
	}
	return f.walk(chain.Node)
}

func isTokenPipe(pipe *parse.PipeNode) bool {
	if len(pipe.Cmds) != 1 {
		return false
	}
	_, ok := tokenOf(pipe.Cmds[0])
	return ok
}

// tokenOf returns the name in a command that is token "NAME".
func tokenOf(command *parse.CommandNode) (string, bool) {
	if len(command.Args) != 2 {
		return "", false
	}
	function, ok := command.Args[0].(*parse.IdentifierNode)
	if !ok || function.Ident != "token" {
		return "", false
	}
	name, ok := command.Args[1].(*parse.StringNode)
	if !ok {
		return "", false
	}
	return name.Text, true
}

func (f finder) fault(node parse.Node, message string) error {
	location, _ := f.tree.ErrorContext(node)
	return errors.New(location + ": " + message)
}

// explain converts a fault for display. The text after a semicolon is its hint.
func (finder) explain(err error, text string) error {
	e := templateError(err.Error(), text)
	if message, hint, ok := strings.Cut(e.Message, "; "); ok {
		e.Message, e.Hint = message, hint
	}
	return e
}
