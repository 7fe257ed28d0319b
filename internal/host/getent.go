package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/credagent/credagent/internal/process"
)

const (
	// getentTimeout is how long a directory service may take to answer.
	getentTimeout = 5 * time.Second
	// maxOutput is more than an entry needs; groups of thousands of members are cut off after their gid.
	maxOutput = 64 << 10
)

// systemDirs are the directories that may contain getent. PATH is not used: whoever sets it could fake users.
var systemDirs = [...]string{"/usr/bin", "/bin", "/usr/local/bin", "/run/current-system/sw/bin"}

var (
	errNoGetent = errors.New("there is no getent, which asks LDAP, SSSD and systemd")
	errUnknown  = errors.New("getent does not know it either")
)

// notFound names the place where a name was looked up.
func notFound(kind, file string, err error) error {
	return fmt.Errorf("no such %s: it is not in %s, and %w; check the name, or give a number", kind, file, err)
}

// entry returns the fields of a line of passwd or group; at least four, as both have, with the number
// third.
func entry(database, key string) ([]string, error) {
	text, err := getent(database, key)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) { // a loader's warning may come before
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) < 4 {
			continue
		}
		if _, err := parseID(fields[2]); err == nil {
			return fields, nil
		}
	}
	return nil, errUnknown
}

// getent returns what getent prints.
func getent(database, key string) (string, error) {
	if key == "" || strings.HasPrefix(key, "-") || strings.ContainsAny(key, "\x00\n:") {
		return "", errUnknown
	}
	path := findGetent()
	if path == "" {
		return "", errNoGetent
	}
	ctx, cancel := context.WithTimeout(context.Background(), getentTimeout)
	defer cancel()
	output := &bounded{most: maxOutput}
	err := process.Run(ctx, process.Command{Path: path, Args: []string{"getent", database, key}, Env: environment(), Dir: "/"}, output)
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("getent did not answer within %v", getentTimeout)
	case err != nil:
		return "", errUnknown
	}
	return output.text.String(), nil
}

func findGetent() string {
	for _, dir := range systemDirs {
		path := filepath.Join(dir, "getent")
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// environment returns what a directory service's module may need, and nothing secret.
func environment() []string {
	env := []string{"LC_ALL=C"}
	for _, name := range []string{"LD_LIBRARY_PATH", "LOCALE_ARCHIVE"} {
		if value, set := os.LookupEnv(name); set {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// bounded keeps only the beginning of what is written.
type bounded struct {
	text strings.Builder
	most int
}

// Write implements [io.Writer].
func (b *bounded) Write(data []byte) (int, error) {
	b.text.Write(data[:min(len(data), b.most-b.text.Len())])
	return len(data), nil
}
