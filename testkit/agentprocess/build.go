package agentprocess

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// tagsFile has the build tags of releases, and marks the root of a checkout.
const tagsFile = "deploy/tags"

// Credagent builds credagent in a directory and returns its path.
func Credagent(dir string) (program string, err error) {
	program = filepath.Join(dir, "credagent")
	return program, Build(".", "./cmd/credagent", program)
}

// Build builds a program as a release does: static, with the same tags, so that everything is compiled only once for
// all tests. The module is named from the checkout's root.
func Build(module, pkg, to string) error {
	root, tags, err := checkout()
	if err != nil {
		return err
	}
	if to, err = filepath.Abs(to); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-C", filepath.Join(root, module), "-trimpath", "-tags="+tags,
		"-ldflags=-s -w -funcalign=8", "-o", to, pkg)
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s of %s: %w\n%s", pkg, module, err, out)
	}
	return nil
}

// checkout finds the checkout's root above the working directory, and reads the tags in it.
func checkout() (root, tags string, err error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", "", err
	}
	for {
		content, err := os.ReadFile(filepath.Join(dir, tagsFile))
		if err == nil {
			return dir, strings.TrimSpace(string(content)), nil
		}
		if dir == filepath.Dir(dir) {
			return "", "", fmt.Errorf("looking for the checkout: no %s above the working directory: %w", tagsFile, err)
		}
		dir = filepath.Dir(dir)
	}
}
