package process

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/credagent/credagent/internal/printable"
)

// shellWords are words that a shell would interpret, but that a program gets as ordinary arguments.
var shellWords = [...]string{"|", "||", "&", "&&", ";", ">", ">>", "<", "2>&1"}

// Unrunnable describes why a program with its arguments cannot run on this host, or would not do what is intended,
// and the fix; "" if nothing is wrong. It runs nothing, and does not show the arguments, which may be secret.
func Unrunnable(words []string) (why, fix string) {
	name := words[0]
	path, err := Find(name)
	first, _, several := strings.Cut(strings.TrimSpace(name), " ")
	var failed *StartError
	switch {
	case err == nil:
		if why, fix = scriptProblem(path); why == "" {
			why, fix = shellProblem(words)
		}
		return why, fix
	case several && strings.ContainsAny(name, "|&;<>$`*"):
		return fmt.Sprintf("the command line that begins with %q is one word, so it is looked for as a program of that name", first),
			`have a shell read it: run: [sh, -c, "…"]`
	case several:
		return fmt.Sprintf("the command line that begins with %q is one word, so it is looked for as a program of that name", first),
			fmt.Sprintf("write the program and each argument as a word of its own: run: [%s, …]", first)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("%q may not be executed", name), fmt.Sprintf("make it a program: chmod +x %q", name)
	case errors.As(err, &failed) && failed.NotFound() && !strings.Contains(name, "/"):
		return fmt.Sprintf("there is no program %q in the directories of PATH", name), "install it, or give its absolute path; what a shell has built in needs run: [sh, -c, \"…\"]"
	case errors.As(err, &failed) && failed.NotFound():
		return fmt.Sprintf("there is no program %q", name), "install it, or correct the path"
	}
	return err.Error(), "give the path of a program"
}

// shellProblem finds words that only a shell would understand.
func shellProblem(words []string) (why, fix string) {
	base := filepath.Base(words[0])
	for _, word := range words[1:] {
		if slices.Contains(shellWords[:], word) && base != "test" && base != "[" && base != "expr" {
			return fmt.Sprintf("%q gets the argument %q as it stands: there is no shell to act on it", words[0], word),
				`have a shell read the command line: run: [sh, -c, "…"]`
		}
	}
	return "", ""
}

// scriptProblem finds what keeps the kernel from running a script.
func scriptProblem(path string) (why, fix string) {
	line, err := firstLine(path)
	if err != nil || !utf8.ValidString(line) || strings.ContainsFunc(line, isControl) {
		return "", "" // not a script; an unreadable file can still be executable
	}
	interpreter, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "#!")
	name, _, _ := strings.Cut(strings.TrimLeft(interpreter, " \t"), " ")
	if !ok || name == "" {
		return fmt.Sprintf("%q is no program, and its first line names none that reads it", path), "begin it with #!/bin/sh"
	}
	if _, err := os.Stat(name); err != nil {
		return fmt.Sprintf("%q is to be read by %q, which is not there", path, printable.Text(name, maxLine)),
			"install that, or correct the script's first line; it ends in a line feed alone, without a carriage return"
	}
	return "", ""
}

// firstLine is the beginning of a file, up to its first line feed.
func firstLine(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	line, err := bufio.NewReaderSize(file, maxLine).ReadSlice('\n')
	if errors.Is(err, io.EOF) || errors.Is(err, bufio.ErrBufferFull) {
		err = nil
	}
	return string(line), err
}

// isControl reports whether a character is one that no text has.
func isControl(r rune) bool { return r < ' ' && r != '\t' && r != '\r' && r != '\n' }
