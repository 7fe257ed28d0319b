package config

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/credagent/credagent/sink"
)

var (
	// envoyEndings are the file name endings that Envoy reads as JSON, or as YAML, which includes JSON. It reads any
	// other file as its own text format.
	envoyEndings = []string{".json", ".yaml", ".yml"}

	// passwordLine is a line of libpq's password file: host:port:database:user:token.
	passwordLine = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^[^:\s#]+:(\*|[0-9]+):[^:\s]+:[^:\s]+:\{\{`) })
)

// suits warns of a sink that is valid but useless for its intended program.
func (v *validator) suits(path string, s Sink) {
	if s.Format == sink.FormatEnvoySDS && s.Path != "" && !slices.Contains(envoyEndings, filepath.Ext(s.Path)) {
		v.warn(join(path, "path"), "Envoy reads a file of secrets as JSON only if its name ends in .json")
	}
	if isPasswordFile(s) {
		v.suitsLibpq(path, s)
	}
	for _, variable := range s.Variables {
		if scopes := v.raw.Tokens[variable.Token].Scopes; variable.Field == "scope" && len(scopes) > 1 {
			v.warn(join(join(path, "variables"), variable.Name),
				"token %s has %d scopes, and an env file cannot hold the space between them", quote(variable.Token), len(scopes))
		}
	}
}

// isPasswordFile recognizes a PostgreSQL password file by its usual name or its content.
func isPasswordFile(s Sink) bool {
	return strings.HasSuffix(filepath.Base(s.Path), "pgpass") || passwordLine().MatchString(s.Template)
}

func (v *validator) suitsLibpq(path string, s Sink) {
	const rule = `libpq ignores a password file that more than its owner may read; use mode "0600", and owner for another user`
	if s.Mode&0o077 != 0 {
		v.warn(join(path, "mode"), "%s", rule)
	}
	if len(s.Readers) > 0 {
		v.warn(join(path, "readers"), "%s", rule)
	}
}
