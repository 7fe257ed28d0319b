package api

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"

	"github.com/credagent/credagent/internal/host"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/sink"
)

const (
	headerMode          = fs.FileMode(0o640)
	headerDirectoryMode = fs.FileMode(0o750)
	longestHeader       = 1 << 10
)

// soundHeader matches a value that is valid in a header and an environment, and cannot be guessed.
var soundHeader = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_-]{32,512}$`) })

// Header is the value that workloads send to the identity endpoint.
type Header struct {
	Value secret.Value
	// Rejected is why the file's old value was not kept; nil if it was kept, or there was none.
	Rejected error
}

// OpenHeader makes sure that the file at path contains the header's value. An existing value is kept if only the
// agent can have written it and only permitted users can have read it, because workloads have had it in their
// environment since they started. A missing directory is created.
func OpenHeader(path string) (Header, error) {
	dir, err := host.Directory{Path: filepath.Dir(path), Owner: host.NoOwner, Make: headerDirectoryMode}.Open()
	if err != nil {
		return Header{}, fmt.Errorf("opening directory %q: %w", filepath.Dir(path), err)
	}
	defer dir.Close()
	var h Header
	h.Value, h.Rejected = standingHeader(path)
	if h.Value.IsZero() {
		h.Value = secret.New(rand.Text() + rand.Text())
	}
	file, err := sink.New(sink.Options{Path: path, Mode: headerMode, Group: groupFor(dir), Renderer: headerRenderer{h.Value}})
	if err != nil {
		return Header{}, err
	}
	_, err = file.Write(nil)
	return h, err
}

// groupFor returns the group that new files in a directory inherit; "" if they inherit none.
func groupFor(dir *os.Root) string {
	info, err := dir.Stat(".")
	if err != nil || info.Mode()&fs.ModeSetgid == 0 {
		return ""
	}
	return groupOf(info)
}

// standingHeader returns the value in the file at path, or why it is not valid.
func standingHeader(path string) (secret.Value, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return secret.Value{}, nil
	}
	if err != nil || !info.Mode().IsRegular() {
		return secret.Value{}, err // the sink reports what to do about it
	}
	if mode := info.Mode().Perm(); mode&^headerMode != 0 {
		return secret.Value{}, fmt.Errorf("its mode is %04o", mode)
	}
	if !isOurs(info) {
		return secret.Value{}, errors.New("it belongs to another user")
	}
	content, err := readSame(path, info)
	if err != nil {
		return secret.Value{}, err
	}
	if !soundHeader().Match(content) {
		return secret.Value{}, errors.New("it does not hold at least 32 letters and digits and nothing else")
	}
	return secret.New(string(content)), nil
}

// readSame reads the file that info describes, and no replacement.
func readSame(path string, info fs.FileInfo) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	opened, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !os.SameFile(info, opened) {
		return nil, errors.New("it was replaced meanwhile")
	}
	content, err := io.ReadAll(io.LimitReader(file, longestHeader))
	return bytes.TrimSuffix(content, []byte("\n")), err // a file made by hand may end in a newline
}

// headerRenderer lets a sink write the value, as it writes tokens.
type headerRenderer struct{ value secret.Value }

// Tokens implements [sink.Renderer].
func (headerRenderer) Tokens() []string { return nil }

// Render implements [sink.Renderer].
func (r headerRenderer) Render(sink.Lookup) ([]byte, error) { return []byte(r.value.Reveal()), nil }
