// Package credfile reads the small files that hold credentials, in the providers' own processes.
package credfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/credagent/credagent/internal/secret"
)

// MaxSize bounds a credential's file, in bytes.
const MaxSize = 1 << 20

// Read returns the content of the file that a configuration key names. Its errors name the key
// and the path and say what to do, and hold nothing of the content.
func Read(key, path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, explain(key, path, err)
	}
	defer file.Close()
	data, err := readAll(file, sizeOf(file))
	switch {
	case err != nil:
		return nil, explain(key, path, err)
	case len(data) > MaxSize:
		clear(data)
		return nil, fmt.Errorf("reading %s %q: it is larger than 1 MiB, so it is not a credential", key, path)
	case len(data) == 0:
		return nil, fmt.Errorf("reading %s %q: it is empty", key, path)
	}
	return data, nil
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

// sizeOf is how much a file holds, or the most that it may where nobody knows: it is a pipe, or the
// kernel makes it up when it is read.
func sizeOf(file *os.File) int64 {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
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

// ReadLine is [Read] for a secret or a password: editors and echo end such a file with a line break
// that is not part of it.
func ReadLine(key, path string) (secret.Value, error) {
	data, err := Read(key, path)
	if err != nil {
		return secret.Value{}, err
	}
	defer clear(data)
	line := bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(line) == 0 {
		return secret.Value{}, fmt.Errorf("reading %s %q: it is empty", key, path)
	}
	return secret.New(string(line)), nil
}

func explain(key, path string, err error) error {
	var inPath *fs.PathError
	if errors.As(err, &inPath) {
		err = inPath.Err
	}
	hint := ""
	if errors.Is(err, fs.ErrPermission) {
		hint = fmt.Sprintf("; let the agent's user (uid %d) read it", os.Geteuid())
	}
	return fmt.Errorf("reading %s %q: %w%s", key, path, err, hint)
}
