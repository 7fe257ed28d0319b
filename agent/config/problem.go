package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Problem is one mistake in a configuration.
type Problem struct {
	File     string
	Position        // zero if there is no position
	Path     string // such as clients.payments.credential, or the environment variable's name
	Message  string
	Hint     string // what to do about it, or ""
}

// String returns the problem in one line, and its hint, if any, in an indented second one.
func (p Problem) String() string {
	var parts []string
	if p.File != "" {
		parts = append(parts, p.File+p.Position.suffix())
	}
	if p.Path != "" {
		parts = append(parts, p.Path)
	}
	line := strings.Join(append(parts, p.Message), ": ")
	if p.Hint != "" {
		line += "\n    hint: " + p.Hint
	}
	return line
}

func (p Position) suffix() string {
	switch {
	case p.Line == 0:
		return ""
	case p.Column == 0:
		return fmt.Sprintf(":%d", p.Line)
	}
	return fmt.Sprintf(":%d:%d", p.Line, p.Column)
}

// Error is everything that is wrong with a configuration, in the order of the file.
type Error struct {
	Problems []Problem
}

// Error returns one line for each problem, with their hints.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// report collects the problems of one configuration and knows the positions of its parts.
type report struct {
	source    string
	positions map[string]Position
	variables map[string]string // path → environment variable, in the environment-only form
	blocks    map[string]int    // path → the first line of a block text
	silenced  map[string]bool   // paths that already have a problem
	problems  []Problem
	warnings  []Problem
	expanded  []string // values of environment variables that may be secret
}

func newReport(source string) *report {
	return &report{source: source, positions: map[string]Position{}, blocks: map[string]int{}, silenced: map[string]bool{}}
}

// hide records the values of environment variables in a text that may be secret.
func (r *report) hide(t text) { r.expanded = append(r.expanded, t.inserted...) }

// problem reports a mistake at path, and keeps later checks from reporting the same place.
func (r *report) problem(path, format string, args ...any) {
	r.hinted(path, "", format, args...)
}

func (r *report) hinted(path, hint, format string, args ...any) {
	r.silenced[path] = true
	r.add(path, hint, fmt.Sprintf(format, args...))
}

// add reports a mistake after which the value at path can still be checked.
func (r *report) add(path, hint, message string) {
	r.problems = append(r.problems, r.make(path, hint, message))
}

func (r *report) warn(path, format string, args ...any) {
	r.warnings = append(r.warnings, r.make(path, "", fmt.Sprintf(format, args...)))
}

// problemAt reports a mistake at a position without a path, such as an unknown key.
func (r *report) problemAt(at Position, path, hint, message string) {
	r.problems = append(r.problems, Problem{r.source, at, path, message, hint})
}

// missing reports that the mapping at path lacks a key, unless the key is there and wrong.
func (r *report) missing(path, key string) {
	full := join(path, key)
	if r.silenced[full] {
		return
	}
	if _, ok := r.variables[full]; ok {
		r.problem(full, "not set")
		return
	}
	r.silenced[full] = true
	r.add(path, "", fmt.Sprintf("missing key %q", key))
}

func (r *report) make(path, hint, message string) Problem {
	return Problem{r.source, locate(r.positions, path), r.name(path), message, hint}
}

// name returns the user's name for a path: itself, or the variable it was read from.
func (r *report) name(path string) string { return variableOf(r.variables, path) }

func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, inFileOrder)
	return &Error{Problems: r.problems}
}

func inFileOrder(a, b Problem) int {
	return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
}

// Locate returns the position of path in the file, or of the nearest enclosing element. It returns the zero Position
// if the configuration did not come from a file.
func (c *Config) Locate(path string) Position { return locate(c.positions, path) }

// AbsoluteSource returns the source for users in other directories: a file's absolute path.
func (c *Config) AbsoluteSource() string {
	if len(c.positions) == 0 { // it did not come from a file
		return c.Source
	}
	if path, err := filepath.Abs(c.Source); err == nil {
		return path
	}
	return c.Source
}

// Problem returns a problem at path, for checks outside this package: a credential provider checks its own keys, the
// agent checks the host.
func (c *Config) Problem(path, message string) Problem {
	return Problem{File: c.Source, Position: c.Locate(path), Path: variableOf(c.variables, path), Message: message}
}

// AllowPath returns the path of the i-th entry of a token's allow list, for [Config.Problem].
func AllowPath(tokenName string, i int) string {
	return index(join(join("tokens", tokenName), "allow"), i)
}

// lasting returns the positions that later problems in a valid configuration may refer to. Most positions, those of
// the tokens' and sinks' own keys, are not among them.
func lasting(positions map[string]Position) map[string]Position {
	last := map[string]Position{}
	for path, at := range positions {
		if canFail(path) {
			last[path] = at
		}
	}
	return last
}

func canFail(path string) bool {
	for up := parent(path); up != ""; path, up = up, parent(up) {
		key := strings.TrimPrefix(path[len(up):], ".")
		switch parent(up) {
		case "tokens":
			return key == "allow"
		case "sinks":
			return key == "path" || key == "readers" || key == "variables" || key == "on_change"
		}
	}
	return true
}

func locate(positions map[string]Position, path string) Position {
	for {
		if at, ok := positions[path]; ok || path == "" {
			return at
		}
		path = parent(path)
	}
}

func variableOf(variables map[string]string, path string) string {
	for at := path; at != ""; at = parent(at) {
		if name, ok := variables[at]; ok {
			return name
		}
	}
	return path
}

// join appends a key to a path. A key that could be mistaken for further parts of the path is quoted.
func join(path, key string) string {
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return !isPathRune(r) }) {
		return path + "[" + strconv.Quote(clip(key)) + "]"
	}
	if path == "" {
		return clip(key)
	}
	return path + "." + clip(key)
}

func isPathRune(r rune) bool {
	return r == '_' || r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// parent is join's reverse. A quoted key holds no ["; quoting escapes it.
func parent(path string) string {
	separator := "."
	switch {
	case strings.HasSuffix(path, `"]`):
		separator = `["`
	case strings.HasSuffix(path, "]"):
		separator = "["
	}
	return path[:max(0, strings.LastIndex(path, separator))]
}

// clip shortens a user's overlong text.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

func quote(s string) string { return strconv.Quote(clip(s)) }

// short formats a duration for people: 2m, not 2m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
