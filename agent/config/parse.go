package config

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxSize bounds the file: ten thousand tokens fit many times over.
const maxSize = 16 << 20

// Load reads the configuration file at path; env looks an environment variable up. What is wrong
// with the file or in it comes back as an [*Error].
func Load(path string, env func(string) (string, bool)) (*Config, error) {
	data, err := read(path)
	if err != nil {
		return nil, &Error{Problems: []Problem{{File: path, Message: "reading it: " + err.Error()}}}
	}
	return Parse(path, data, env)
}

func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, cause(err)
	}
	defer func() { _ = file.Close() }()
	// One byte more than allowed, so that Parse sees what is too big.
	data, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	return data, cause(err)
}

// cause takes the operation and the path off an error: the caller's message has them.
func cause(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

// Parse reads a configuration from data; name stands for the file in messages. What is wrong
// comes back as an [*Error].
func Parse(name string, data []byte, env func(string) (string, bool)) (*Config, error) {
	report := newReport(name)
	root := document(report, data)
	if err := report.err(); err != nil {
		return nil, err
	}
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	var raw rawFile
	report.positions[""] = position(root)
	d := decoder{report: report, env: env}
	d.value(root, "", reflect.ValueOf(&raw).Elem())
	if report.silenced[""] {
		return nil, report.err() // not a mapping: all that follows would be noise
	}
	return validate(report, &raw)
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

// syntaxProblem puts a message of the YAML parser into this package's form. The parser gives a
// line, and none at all for the first.
func syntaxProblem(source string, data []byte, err error) Problem {
	problem := Problem{File: source, Position: Position{Line: 1, Column: 1}, Message: "not valid YAML"}
	m := yamlError().FindStringSubmatch(err.Error())
	if m == nil {
		return problem
	}
	problem.Message += ": " + m[2]
	if line, err := strconv.Atoi(m[1]); err == nil {
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
