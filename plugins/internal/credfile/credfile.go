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

// ErrEmpty means that a file holds nothing.
var ErrEmpty = errors.New("it is empty")

// MaxSize bounds a credential's file, in bytes.
const MaxSize = 1 << 20

// Read returns the content of the file that a configuration key names. Its errors name the key
// and the path and say what to do, and hold nothing of the content.
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

// pipeTimeout is how long somebody may take to write a credential into a pipe.
const pipeTimeout = 3 * time.Second

// content reads what a file or pipe holds.
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

// readPipe waits for somebody who writes into a pipe, and for what they write, but not for ever: the
// reader of a credential is waited for.
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
		<-again.C // as long as nobody has it open to write, it is at its end
	}
}

// readAll reads a file of about this size, up to one byte more than is allowed, and leaves no copy
// behind: a buffer that grows on the way would leave its smaller ones, which nobody could clear.
func readAll(file *os.File, size int64) ([]byte, error) {
	data, err := fill(file, size+1)
	if err != nil || int64(len(data)) <= size || size >= MaxSize {
		return data, err
	}
	clear(data) // it has grown since somebody looked
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return fill(file, MaxSize+1)
}

// sizeOf is how much a file holds, or the most that it may where nobody knows: the kernel makes it up
// when it is read.
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

// ReadLine is [Read] for a password or a PIN, which is one line. [Line] says what is stripped and what
// is refused.
func ReadLine(key, path string) (secret.Value, error) {
	return readWith(key, path, Line)
}

// ReadSecret is [Read] for a client secret, of which [Secret] says more than of a line.
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
// stripped: a byte order mark, UTF-16, empty lines, NULs at the end. Blanks at its ends may be its own
// and stay. What has no plain meaning, such as a second line, is refused, so that it is never sent.
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

// Secret is [Line] for what goes to a server: a client secret is printable ASCII (RFC 6749, A.2). Other
// letters are left to the server, but what nobody sees is refused: it came along when the secret was
// copied, and would cost a failed login.
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
			return secret.Value{}, fmt.Errorf("character %d of %d is %U, which nobody sees and no secret holds; write the secret anew without it", at, utf8.RuneCountInString(text), r)
		}
	}
	return value, nil
}

func lines(text []byte) int {
	return bytes.Count(bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n")), []byte("\n")) + 1
}

// explain explains why a file could not be read. People put a secret where the path to it belongs, and
// nothing distinguishes one that begins with a slash from a path, but that no such file exists: then no more
// is shown than what exists of it.
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

// existing is the longest beginning of a path that is a directory.
func existing(path string) string {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.IsDir() || dir == filepath.Dir(dir) {
			return dir
		}
	}
}
