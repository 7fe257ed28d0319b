package main

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// writeNotices prints the licences of everything that is linked into a binary: most of them ask
// for no more than to be handed on with it.
func writeNotices(binary string, out io.Writer) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("reading what %q was built from: %w", binary, err)
	}
	goroot, err := goCommand("env", "GOROOT")
	if err != nil {
		return err
	}
	if err := writeLicences(out, "The Go standard library, "+info.GoVersion, goroot); err != nil {
		return err
	}
	for _, module := range info.Deps {
		dir, err := goCommand("list", "-m", "-f", "{{.Dir}}", module.Path)
		if err != nil {
			return err
		}
		if err := writeLicences(out, module.Path+" "+module.Version, dir); err != nil {
			return err
		}
	}
	return nil
}

func goCommand(args ...string) (string, error) {
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		return "", fmt.Errorf("running go %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// writeLicences prints a module's licence files; a module without one is an error.
func writeLicences(out io.Writer, title, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("looking for the licence of %s: %w", title, err)
	}
	found := false
	for _, entry := range entries {
		if !isLicence(entry) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		found = true
		if _, err := fmt.Fprintf(out, "%s\n%s: %s\n\n%s\n\n", strings.Repeat("=", 72), title, entry.Name(), strings.TrimSpace(string(text))); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("looking for the licence of %s: %w in %q", title, errNoLicence, dir)
	}
	return nil
}

var errNoLicence = errors.New("there is none")

func isLicence(entry fs.DirEntry) bool {
	name := strings.ToUpper(entry.Name())
	for _, start := range []string{"LICENSE", "LICENCE", "COPYING", "NOTICE", "PATENTS"} {
		if strings.HasPrefix(name, start) && entry.Type().IsRegular() {
			return true
		}
	}
	return false
}
