package assertion

import (
	"bytes"
	"context"
	"fmt"

	"github.com/credagent/credagent/internal/keyfile"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins/internal/credfile"
)

// newFile is the source for a file that something else keeps fresh, named by a key of the configuration.
func newFile(key, path string) Source {
	return Source{
		files:   []string{path},
		doing:   fmt.Sprintf("reading %s %q", key, path),
		expired: "whatever writes it has stopped",
		lasting: true,
		get: func(context.Context) (secret.Value, error) {
			data, err := credfile.Read(key, path)
			if err != nil {
				return secret.Value{}, err
			}
			defer clear(data)
			return clean(data), nil
		},
	}
}

// clean takes off what editors and shells put around a token.
func clean(data []byte) secret.Value {
	return secret.New(string(bytes.Trim(keyfile.Text(data), " \t\r\n\x00")))
}
