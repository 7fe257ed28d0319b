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

// soundHeader is a value that can be sent in a header and stand in an environment, and that nobody
// guesses.
var soundHeader = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_-]{32,512}$`) })

// Header is the value that workloads send to the identity endpoint.
type Header struct {
	Value secret.Value
	// Rejected says why what stood in the file was not kept; nil if nothing did, or it was.
	Rejected error
}

// OpenHeader makes sure that the header's value stands in the file at path. A value that stands
// there is kept if nobody but us can have written it, or read it without being meant to: workloads
// have it in their environment since their start. The directory is made where it is missing.
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

// groupFor returns the group that a directory gives to what is made in it; "" where it gives none.
func groupFor(dir *os.Root) string {
	info, err := dir.Stat(".")
	if err != nil || info.Mode()&fs.ModeSetgid == 0 {
		return ""
	}
	return groupOf(info)
}

// standingHeader returns the value in the file at path, and otherwise why it is not sound.
func standingHeader(path string) (secret.Value, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return secret.Value{}, nil
	}
	if err != nil || !info.Mode().IsRegular() {
		return secret.Value{}, err // the sink says what to do about it
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

// readSame reads the file that info describes, and nothing that has taken its place.
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
	return bytes.TrimSuffix(content, []byte("\n")), err // whoever made it by hand may have ended the line
}

// headerRenderer lets a sink write the value, as it writes tokens.
type headerRenderer struct{ value secret.Value }

// Tokens implements [sink.Renderer].
func (headerRenderer) Tokens() []string { return nil }

// Render implements [sink.Renderer].
func (r headerRenderer) Render(sink.Lookup) ([]byte, error) { return []byte(r.value.Reveal()), nil }
