package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// expand replaces each ${NAME} in s by that environment variable and each $$ by a dollar sign;
// any other dollar sign is literal. Inserted values are not expanded again. expanded
// reports whether a variable was inserted. Its errors name variables and never show a value.
func expand(s string, env func(string) (string, bool)) (result string, expanded bool, err error) {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(s, "$")
		out.WriteString(before)
		if !found {
			return out.String(), expanded, nil
		}
		switch {
		case strings.HasPrefix(after, "$"):
			out.WriteByte('$')
			s = after[1:]
		case strings.HasPrefix(after, "{"):
			value, rest, err := reference(after[1:], env)
			if err != nil {
				return "", false, err
			}
			out.WriteString(value)
			s, expanded = rest, true
		default:
			out.WriteByte('$')
			s = after
		}
	}
}

// reference reads NAME} from the start of s and returns the variable's value and what follows.
func reference(s string, env func(string) (string, bool)) (value, rest string, err error) {
	name, rest, closed := strings.Cut(s, "}")
	if !closed {
		return "", "", errors.New(`"${" is not closed by "}"; write $$ for a dollar sign`)
	}
	if !isVariableName(name) {
		return "", "", fmt.Errorf("%s is not the name of an environment variable; write $$ for a dollar sign", quote(name))
	}
	value, ok := env(name)
	if !ok {
		return "", "", fmt.Errorf("environment variable %q is not set", clip(name))
	}
	if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
		return "", "", fmt.Errorf("environment variable %q is not valid UTF-8 text", clip(name))
	}
	return value, rest, nil
}

// isVariableName reports whether s matches [A-Za-z_][A-Za-z0-9_]*.
func isVariableName(s string) bool {
	for i, r := range s {
		digit := '0' <= r && r <= '9'
		if !digit && r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') || digit && i == 0 {
			return false
		}
	}
	return s != ""
}
