package plugins

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// ConfigError is a problem with one key of a provider's configuration.
type ConfigError struct {
	Key     string // "" if it concerns the whole configuration
	Message string // what is wrong and what to do; never the value of a secret
}

// Error implements error.
func (e *ConfigError) Error() string {
	if e.Key == "" {
		return e.Message
	}
	return e.Key + ": " + e.Message
}

// DecodeConfig decodes a provider's configuration into the struct that into points to, by its json
// tags; an embedded struct's fields are its own. All unknown keys and values of the wrong type are reported at once,
// each as a [ConfigError].
func DecodeConfig(config json.RawMessage, into any) error {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(config, &values); err != nil {
		return &ConfigError{Message: "is not an object of keys and values"}
	}
	fields := fieldsOf(into)
	var problems []error
	for _, key := range sortedKeys(values) {
		field, ok := fields[key]
		if !ok {
			problems = append(problems, &ConfigError{key, "unknown key; known are " + strings.Join(sortedKeys(fields), ", ")})
			continue
		}
		if err := json.NewDecoder(bytes.NewReader(values[key])).Decode(field.Addr().Interface()); err != nil {
			problems = append(problems, &ConfigError{key, "is not " + kindOf(field.Type())})
		}
	}
	return errors.Join(problems...)
}

// AbsolutePath reports, as a [ConfigError], a path that is not absolute: a provider's working
// directory is not the agent's. An empty path is valid. The path is not shown, because people mistakenly put the
// secret itself there.
func AbsolutePath(key, path string) error {
	if path == "" || filepath.IsAbs(path) {
		return nil
	}
	return &ConfigError{key, "is not an absolute path"}
}

func fieldsOf(into any) map[string]reflect.Value {
	value := reflect.ValueOf(into).Elem()
	fields := make(map[string]reflect.Value, value.NumField())
	for i := range value.NumField() {
		field := value.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name != "" && name != "-":
			fields[name] = value.Field(i)
		case field.Anonymous && field.Type.Kind() == reflect.Struct:
			maps.Copy(fields, fieldsOf(value.Field(i).Addr().Interface()))
		}
	}
	return fields
}

func kindOf(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[Duration]():
		return `a duration such as "90s"`
	case t.Kind() == reflect.String:
		return "a string"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Slice:
		return "a list"
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Float64:
		return "a number"
	}
	return "of the right type"
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// problems flattens an error of Open into what the agent shows: the first problem for each key, because a key that
// does not decode need not also be reported as missing.
func problems(err error) []*ConfigError {
	var all []*ConfigError
	for _, problem := range flatten(err) {
		if problem.Key == "" || !slices.ContainsFunc(all, func(p *ConfigError) bool { return p.Key == problem.Key }) {
			all = append(all, problem)
		}
	}
	return all
}

func flatten(err error) []*ConfigError {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*ConfigError
		for _, part := range joined.Unwrap() {
			all = append(all, flatten(part)...)
		}
		return all
	}
	var problem *ConfigError
	if errors.As(err, &problem) {
		return []*ConfigError{problem}
	}
	return []*ConfigError{{Message: err.Error()}}
}

func oneLine(problems []*ConfigError) string {
	lines := make([]string, len(problems))
	for i, problem := range problems {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "; ")
}
