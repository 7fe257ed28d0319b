// Package credfile reads the small files that hold credentials, in the providers' own processes.
package credfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/credagent/credagent/internal/keyfile"
	"github.com/credagent/credagent/internal/secret"
)

// ErrEmpty means that a file is empty.
var ErrEmpty = errors.New("it is empty")

// MaxSize limits a credential's file, in bytes.
const MaxSize = 1 << 20

// Read returns the content of the file that a configuration key names. Its errors name the key, the path and what to
// do, and contain nothing of the content.
func Read(key, path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|openFlags, 0)
	if errors.Is(err, syscall.ENXIO) {
		err = errors.New("it is a socket, or a device that is not there; name a regular file")
	}
	if err != nil {
		return nil, explain(key, path, err)
	}
	defer file.Close()
	data, err := content(file)
	switch {
	case err != nil:
		return nil, explain(key, path, err)
	case len(data) > MaxSize:
		clear(data)
		return nil, fmt.Errorf("reading %s %q: it is larger than 1 MiB, so it is not a credential", key, path)
	case len(data) == 0:
		return nil, fmt.Errorf("reading %s %q: %w", key, path, ErrEmpty)
	}
	return data, nil
}

// pipeTimeout is the time limit for writing a credential into a pipe.
const pipeTimeout = 3 * time.Second

// content reads a file or a pipe.
func content(file *os.File) ([]byte, error) {
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, errors.New("it is a directory; name a file in it")
	case info.Mode()&fs.ModeDevice != 0:
		return nil, errors.New("it is a device; name a regular file")
	case info.Mode()&fs.ModeNamedPipe != 0:
		return readPipe(file)
	}
	return readAll(file, sizeOf(info))
}

// readPipe waits for a writer of a pipe, and for its data, but not forever, because others wait for the credential.
func readPipe(pipe *os.File) ([]byte, error) {
	deadline := time.Now().Add(pipeTimeout)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	if err := pipe.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	for {
		data, err := fill(pipe, MaxSize+1)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), err == nil && len(data) == 0 && time.Now().After(deadline):
			clear(data)
			return nil, fmt.Errorf("it is a pipe, and nobody wrote a credential into it and closed it within %v; name a regular file", pipeTimeout)
		case err != nil || len(data) > 0:
			return data, err
		}
		<-again.C // a pipe without a writer reads as at its end
	}
}

// readAll reads a file of about this size, up to one byte more than allowed, and leaves no copy behind: a growing
// buffer would leave smaller ones that cannot be cleared.
func readAll(file *os.File, size int64) ([]byte, error) {
	data, err := fill(file, size+1)
	if err != nil || int64(len(data)) <= size || size >= MaxSize {
		return data, err
	}
	clear(data) // it has grown since stat
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return fill(file, MaxSize+1)
}

// sizeOf returns a file's size, or the maximum if it is unknown because the kernel generates the content when it is
// read.
func sizeOf(info fs.FileInfo) int64 {
	if !info.Mode().IsRegular() || info.Size() == 0 {
		return MaxSize
	}
	return min(info.Size(), MaxSize)
}

func fill(file *os.File, size int64) ([]byte, error) {
	buffer := make([]byte, size)
	n, err := io.ReadFull(file, buffer)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return buffer[:n], err
}

// ReadLine is [Read] for a password or a PIN, which is one line. [Line] describes what is stripped and what is
// refused.
func ReadLine(key, path string) (secret.Value, error) {
	return readWith(key, path, Line)
}

// ReadSecret is [Read] for a client secret, with the rules of [Secret].
func ReadSecret(key, path string) (secret.Value, error) {
	return readWith(key, path, Secret)
}

func readWith(key, path string, clean func([]byte) (secret.Value, error)) (secret.Value, error) {
	data, err := Read(key, path)
	if err != nil {
		return secret.Value{}, err
	}
	defer clear(data)
	value, err := clean(data)
	if err != nil {
		return secret.Value{}, fmt.Errorf("reading %s %q: %w", key, path, err)
	}
	return value, nil
}

// Line returns the one line that data holds. What editors, echo and PowerShell put around a secret is
// stripped: a byte order mark, UTF-16, empty lines, NULs at the end. Spaces at its ends may belong to it and stay.
// Ambiguous content, such as a second line, is refused, so that it is never sent.
func Line(data []byte) (secret.Value, error) {
	text := keyfile.Text(data)
	line := bytes.Trim(bytes.TrimRight(bytes.Trim(text, "\r\n"), "\x00"), "\r\n")
	switch {
	case len(bytes.TrimSpace(line)) == 0:
		return secret.Value{}, ErrEmpty
	case bytes.Contains(line, []byte("-----BEGIN")):
		return secret.Value{}, errors.New("it holds PEM, a certificate or a key, and no secret; name a file with the secret alone")
	case bytes.ContainsAny(line, "\r\n"):
		return secret.Value{}, fmt.Errorf("it holds %d lines, where a secret is one; name a file with the secret alone", lines(line))
	case bytes.ContainsRune(line, 0):
		return secret.Value{}, errors.New("it holds a NUL in its middle, so it is not text; write the secret anew, as UTF-8")
	}
	return secret.New(string(line)), nil
}

// Secret is [Line] for what goes to a server: a client secret is printable ASCII (RFC 6749, A.2). Other letters are
// left to the server, but invisible characters are refused: they come from copying the secret, and would make the
// login fail.
func Secret(data []byte) (secret.Value, error) {
	value, err := Line(data)
	if err != nil {
		return secret.Value{}, err
	}
	text := value.Reveal()
	if !utf8.ValidString(text) {
		return secret.Value{}, errors.New("it is not text in UTF-8; write the secret anew, as UTF-8")
	}
	at := 0
	for _, r := range text {
		at++
		if r != ' ' && !unicode.IsGraphic(r) || r != ' ' && unicode.IsSpace(r) {
			return secret.Value{}, fmt.Errorf("character %d of %d is %U, which is invisible and belongs to no secret; write the secret again without it", at, utf8.RuneCountInString(text), r)
		}
	}
	return value, nil
}

func lines(text []byte) int {
	return bytes.Count(bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n")), []byte("\n")) + 1
}

// explain describes why a file could not be read. People put a secret where the path to it belongs, and one that
// begins with a slash looks like a path, except that no such file exists. So only the part of the path that exists is
// shown.
func explain(key, path string, err error) error {
	var inPath *fs.PathError
	if errors.As(err, &inPath) {
		err = inPath.Err
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, syscall.EINVAL) {
		if dir := existing(path); dir != filepath.Dir(path) || filepath.Dir(dir) == dir {
			return fmt.Errorf("reading %s: there is no such file: %q exists, and what follows it in the path does not (it is not shown, as it could be a secret in the path's place)", key, dir)
		}
	}
	hint := ""
	if errors.Is(err, fs.ErrPermission) {
		hint = fmt.Sprintf("; let the agent's user (uid %d) read it", os.Geteuid())
	}
	return fmt.Errorf("reading %s %q: %w%s", key, path, err, hint)
}

// existing returns the longest prefix of a path that is a directory.
func existing(path string) string {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.IsDir() || dir == filepath.Dir(dir) {
			return dir
		}
	}
}
