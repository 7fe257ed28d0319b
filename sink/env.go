package sink

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// docker reads the file with a scanner that allows lines of at most 64 KiB, including the newline.
const maxEnvLine = 64 << 10

// Variable is one line of an environment file.
type Variable struct {
	Name  string // [A-Za-z_][A-Za-z0-9_]*
	Token string
	Field string // "" for the access token itself, else a field of the token's JSON form
}

type env struct {
	variables []Variable
	tokens    []string
}

// Env renders NAME=value lines, in the order given, that systemd's EnvironmentFile=, docker's
// --env-file and a shell's "set -a; . file" all read alike. The three have no quoting in common,
// so a value may have only characters that all of them read literally: letters, digits and -._~+/=:,@%!#*?[]{}^ (~
// and = not where a shell would expand them). The list was found by testing. Access tokens consist of these (RFC
// 6750, 2.1), including Salesforce's with !; a list of scopes, with its spaces, does not. All faults are reported,
// not just the first.
func Env(variables []Variable) (Renderer, error) {
	if len(variables) == 0 {
		return nil, errors.New("an environment file needs at least one variable")
	}
	e := env{variables: slices.Clone(variables)}
	seen := make(map[string]bool)
	var faults []error
	for _, v := range variables {
		if err := v.check(); err != nil {
			faults = append(faults, fmt.Errorf("variable %q: %w", v.Name, err))
		}
		if seen[v.Name] {
			faults = append(faults, fmt.Errorf("variable %q: it is set twice", v.Name))
		}
		seen[v.Name] = true
		e.tokens = append(e.tokens, v.Token)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	e.tokens = sortedUnique(e.tokens)
	return e, nil
}

func (v Variable) check() error {
	if !isName(v.Name) {
		return errors.New("a name has letters, digits and _, and no digit first")
	}
	if isShellOwned(v.Name) {
		return errors.New("shells keep this name for themselves; choose another")
	}
	if v.Token == "" {
		return errors.New("it names no token")
	}
	if _, err := (form{}).field(v.Field); err != nil {
		return fmt.Errorf("field %q: %w", v.Field, err)
	}
	return nil
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && !isLetter(c) && (i == 0 || !isDigit(c)) {
			return false
		}
	}
	return s != ""
}

// isShellOwned reports whether sh, dash or bash refuses or changes what is assigned to name.
func isShellOwned(name string) bool {
	switch name {
	case "_", "DIRSTACK", "EPOCHREALTIME", "EPOCHSECONDS", "EUID", "FUNCNAME", "GROUPS", "HISTCMD",
		"LINENO", "OPTIND", "PPID", "RANDOM", "SECONDS", "SHELLOPTS", "SRANDOM", "UID":
		return true
	}
	return strings.HasPrefix(name, "BASH")
}

func (e env) Tokens() []string { return slices.Clone(e.tokens) }

func (e env) Render(lookup Lookup) ([]byte, error) {
	forms, err := newForms(e.tokens, lookup)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, v := range e.variables {
		value, err := forms[v.Token].field(v.Field)
		if err == nil {
			err = checkValue(v.Name, value)
		}
		if err != nil {
			return nil, fmt.Errorf("variable %q: %w", v.Name, err)
		}
		out.WriteString(v.Name + "=" + value + "\n")
	}
	return out.Bytes(), nil
}

// Environ renders variables for the environment of a process: NAME=value, in the order given. A value may have any
// character except NUL. The result contains tokens in plain text: use it only to start the process.
func Environ(variables []Variable, lookup Lookup) ([]string, error) {
	var names []string
	for _, v := range variables {
		names = append(names, v.Token)
	}
	forms, err := newForms(names, lookup)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, v := range variables {
		value, err := forms[v.Token].field(v.Field)
		if err == nil && strings.ContainsRune(value, 0) {
			err = errors.New("its value has a zero byte")
		}
		if err != nil {
			return nil, fmt.Errorf("variable %q: %w", v.Name, err)
		}
		out = append(out, v.Name+"="+value)
	}
	return out, nil
}

func checkValue(name, value string) error {
	if len(name)+len(value)+len("=\n") > maxEnvLine {
		return fmt.Errorf("its value has %d bytes, more than docker reads; use a file sink for it", len(value))
	}
	var before byte
	for i := range len(value) {
		if !isPlain(value[i], before, i == 0) {
			return errors.New("its value has a character that systemd, docker and shells do not all read alike; use a file sink for it")
		}
		before = value[i]
	}
	return nil
}

// isPlain reports whether systemd, docker and shells all take the character c of a value
// literally, given the one before it. Shells expand ~ and zsh expands = where a value begins and
// after a colon. None of them expands patterns, braces or history in an assignment read from a file.
func isPlain(c, before byte, first bool) bool {
	switch {
	case isLetter(c), isDigit(c):
		return true
	case c == '~', c == '=':
		return !first && before != ':'
	default:
		return strings.IndexByte("-._+/:,@%!#*?[]{}^", c) >= 0
	}
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
