package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/credagent/credagent/internal/atomicfile"
)

// maxSize limits the file: ten thousand tokens fit many times over.
const maxSize = 16 << 20

// Load reads the configuration file at path; env looks an environment variable up. Problems are returned as an
// [*Error].
func Load(path string, env func(string) (string, bool)) (*Config, error) {
	data, err := read(path)
	if err != nil {
		return nil, &Error{Problems: []Problem{{File: path, Message: "reading it: " + err.Error()}}}
	}
	return Parse(path, data, env)
}

func read(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|nonblocking, 0) // a named pipe must not block
	if err != nil {
		return nil, atomicfile.Cause(err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, atomicfile.Cause(err)
	}
	if !info.Mode().IsRegular() {
		_ = file.SetReadDeadline(time.Now().Add(pipeTimeout)) // a terminal or a device has none
	}
	// One byte more than allowed, so that Parse notices a file that is too large.
	data, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("it is a pipe, and nobody wrote to its end within %v", pipeTimeout)
	case err == nil && len(data) == 0 && info.Mode()&fs.ModeNamedPipe != 0:
		return nil, errors.New("it is a pipe that nobody writes to")
	}
	return data, atomicfile.Cause(err)
}

// pipeTimeout is how long a program may take to write a configuration into a pipe.
const pipeTimeout = 10 * time.Second

// Parse reads a configuration from data; name identifies the file in messages. Problems are returned as an [*Error].
func Parse(name string, data []byte, env func(string) (string, bool)) (*Config, error) {
	report := newReport(name)
	root := document(report, data)
	if err := report.err(); err != nil {
		return nil, err
	}
	c := parse(report, root, env)
	return c.sound(report)
}

// parse reads the configuration at root, and reports problems. It returns nil if there is nothing to check.
func parse(report *report, root *yaml.Node, env func(string) (string, bool)) *Config {
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	var raw rawFile
	report.positions[""] = position(root)
	d := decoder{report: report, env: env}
	d.value(root, "", reflect.ValueOf(&raw).Elem())
	if report.silenced[""] {
		return nil // not a mapping: further problems would be noise
	}
	return validate(report, &raw)
}

// Examine is [Load] for callers that report all problems at once: with the problems it returns the readable part of
// the configuration, which is only good for finding more; nil if nothing is readable.
func Examine(path string, env func(string) (string, bool)) (*Config, []Problem) {
	data, err := read(path)
	if err != nil {
		return nil, []Problem{{File: path, Message: "reading it: " + err.Error()}}
	}
	report := newReport(path)
	root := document(report, data)
	if report.err() != nil {
		return nil, report.problems
	}
	c := parse(report, root, env)
	_ = report.err() // sorts them
	if c != nil {
		c.positions = report.positions
		c.Warnings = report.warnings
	}
	return c, report.problems
}

// document returns the root of the only YAML document in data, or nil with a problem reported.
func document(r *report, data []byte) *yaml.Node {
	if len(data) > maxSize {
		r.problem("", "larger than %d MiB", maxSize>>20)
		return nil
	}
	if at, bad := badCharacter(data); bad {
		r.problemAt(at, "", "", "not a text file in UTF-8, or with a control character in it")
		return nil
	}
	var root, second yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	err := decoder.Decode(&root)
	if errors.Is(err, io.EOF) || err == nil && isNull(root.Content[0]) {
		r.problem("", "the configuration is empty")
		return nil
	}
	if err == nil {
		if err = decoder.Decode(&second); errors.Is(err, io.EOF) {
			return root.Content[0]
		}
	}
	if err != nil {
		r.problems = append(r.problems, syntaxProblem(r.source, data, err))
		return nil
	}
	r.problemAt(position(&second), "", "one file holds one configuration", "a second YAML document")
	return nil
}

// badCharacter finds the first byte that is not part of UTF-8 text. YAML's own message about it
// has no position.
func badCharacter(data []byte) (Position, bool) {
	line, column := 1, 1
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && size == 1, r < ' ' && r != '\n' && r != '\r' && r != '\t', r == 0x7f:
			return Position{line, column}, true
		case r == '\n':
			line, column = line+1, 0
		}
		i += size
		column++
	}
	return Position{}, false
}

var yamlError = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`) })

// syntaxLine returns the line in which the parser gave up. It gives none at all for the first.
func syntaxLine(err error) int {
	if m := yamlError().FindStringSubmatch(err.Error()); m != nil {
		if line, err := strconv.Atoi(m[1]); err == nil {
			return line
		}
	}
	return 1
}

// syntaxProblem converts a message of the YAML parser to a Problem.
func syntaxProblem(source string, data []byte, err error) Problem {
	problem := Problem{File: source, Position: Position{Line: syntaxLine(err), Column: 1}, Message: "not valid YAML"}
	if m := yamlError().FindStringSubmatch(err.Error()); m != nil {
		problem.Message += ": " + m[2]
	}
	if at, hint, found := findSlip(data, problem.Line); found {
		problem.Position, problem.Hint = at, hint
		return problem
	}
	if line, found := brokenLine(data); found {
		problem.Line = line
	}
	lines := strings.SplitN(string(data), "\n", problem.Line+1)
	if problem.Line > len(lines) {
		return problem
	}
	text := strings.TrimLeft(lines[problem.Line-1], " ")
	problem.Column = len(lines[problem.Line-1]) - len(text) + 1
	if strings.HasPrefix(text, "\t") {
		problem.Hint = "YAML is indented with spaces; there is a tab here"
	}
	return problem
}

// maxTries is how many lines before the reported one are checked for the mistake.
const maxTries = 200

// Each try parses everything before the line again. The cost is limited, in bytes: a reload must not keep the agent
// busy for long.
const (
	maxSearched = 256 << 10 // of the largest file that is searched
	maxParsed   = 2 << 20   // in all tries together
)

// brokenLine finds the line that makes a file invalid YAML: everything before it is valid. The parser itself only
// names the line where the surrounding element begins.
func brokenLine(data []byte) (line int, found bool) {
	if len(data) > maxSearched {
		return 0, false
	}
	ends := []int{0}
	for text := range bytes.Lines(data) {
		ends = append(ends, ends[len(ends)-1]+len(text))
	}
	whole := yamlFault(data)
	shows := sort.Search(len(ends), func(n int) bool { return yamlFault(data[:ends[n]]) == whole })
	parsed := 0
	for n := min(shows, len(ends)-1) - 1; n >= 0 && n >= shows-maxTries && parsed < maxParsed; n-- {
		parsed += ends[n]
		if yamlFault(data[:ends[n]]) == "" {
			return n + 1, true
		}
	}
	return 0, false
}

// yamlFault returns the parser's error for data, "" for none.
func yamlFault(data []byte) string {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var node yaml.Node
		switch err := decoder.Decode(&node); {
		case errors.Is(err, io.EOF):
			return ""
		case err != nil:
			return err.Error()
		}
	}
}
