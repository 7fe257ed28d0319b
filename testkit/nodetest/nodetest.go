//go:build unix

// Package nodetest runs third-party JavaScript in tests: it finds Node.js and installs npm packages as
// a lock file pins them.
//
// Packages are installed once, into the user's cache directory, and shared by all test processes. It
// needs node and npm, and the first time a package registry.
package nodetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	oldestNode   = 20
	installLimit = 5 * time.Minute
	// doneFile marks the directory of a finished installation.
	doneFile = ".installed"
)

var errNoTools = fmt.Errorf("node %d or newer and npm are needed: apt-get install nodejs npm", oldestNode)

// Project is a script and the packages that it needs.
type Project struct {
	Name   string // of its directory in the cache
	Files  fs.FS  // with package.json, package-lock.json and the script
	Script string // the script's name
}

// Command prepares to run the project's script, after installing what it needs. The process has the
// environment of this one and is not started yet.
func (p Project) Command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	found, err := findTools(ctx)
	if err != nil {
		return nil, err
	}
	script, err := p.install(ctx, found.npm)
	if err != nil {
		return nil, err
	}
	// The caller ends it: a test's context ends before the test's cleanup.
	cmd := exec.Command(found.node, append([]string{script}, args...)...)
	cmd.Env = os.Environ()
	return cmd, nil
}

type tools struct{ node, npm string }

func findTools(ctx context.Context) (tools, error) {
	node, nodeErr := exec.LookPath("node")
	npm, npmErr := exec.LookPath("npm")
	if nodeErr != nil || npmErr != nil {
		return tools{}, errNoTools
	}
	version, err := exec.CommandContext(ctx, node, "--version").Output()
	if err != nil {
		return tools{}, fmt.Errorf("asking %q for its version: %w", node, err)
	}
	if majorVersion(string(version)) < oldestNode {
		return tools{}, fmt.Errorf("%w (%q is %s)", errNoTools, node, strings.TrimSpace(string(version)))
	}
	return tools{node: node, npm: npm}, nil
}

// majorVersion reads the 20 of "v20.20.2"; it is 0 for anything else.
func majorVersion(version string) int {
	major, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	n, err := strconv.Atoi(major)
	if err != nil {
		return 0
	}
	return n
}

// install makes sure that the script and its packages are in the user's cache directory, one
// directory for each lock file, and returns the path of the script. Only the first of several
// processes installs; the others wait for it.
func (p Project) install(ctx context.Context, npm string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("looking for a cache directory: %w", err)
	}
	packageLock, err := fs.ReadFile(p.Files, "package-lock.json")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "credagent-test", p.Name+"-"+digest(packageLock))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := p.installPackages(ctx, npm, dir, lock); err != nil {
		return "", fmt.Errorf("installing %s in %q: %w", p.Name, dir, err)
	}
	return p.installScript(dir)
}

// lockDir waits for the directory's lock, which closing the file releases.
func lockDir(dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking %q: %w", lock.Name(), err), lock.Close())
	}
	return lock, nil
}

func (p Project) installPackages(ctx context.Context, npm, dir string, lock *os.File) error {
	done := filepath.Join(dir, doneFile)
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	for _, name := range []string{"package.json", "package-lock.json"} {
		content, err := fs.ReadFile(p.Files, name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, installLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir = dir
	// npm holds the lock too, so that it remains locked if npm outlives a killed test.
	cmd.ExtraFiles = []*os.File{lock}
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, said)
	}
	return os.WriteFile(done, nil, 0o600)
}

// installScript puts the script beside the packages, where node looks for them, under a name that
// changes with its content, so that a running test keeps the script it started with.
func (p Project) installScript(dir string) (string, error) {
	content, err := fs.ReadFile(p.Files, p.Script)
	if err != nil {
		return "", err
	}
	ext := filepath.Ext(p.Script)
	script := filepath.Join(dir, strings.TrimSuffix(p.Script, ext)+"-"+digest(content)+ext)
	if _, err := os.Stat(script); err == nil {
		return script, nil
	}
	partial := script + ".partial"
	if err := os.WriteFile(partial, content, 0o600); err != nil {
		return "", err
	}
	return script, os.Rename(partial, script)
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:8])
}
