//go:build linux

package nspawn

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const buildLimit = 10 * time.Minute

// recipe makes the root file system: the least that boots, and rpm to try that package too.
var recipe = [...]string{
	"--variant=minbase", "--include=systemd,systemd-sysv,dbus,libpam-systemd,rpm",
	`--aptopt=Acquire::Languages "none"`,
	"--dpkgopt=path-exclude=/usr/share/locale/*",
	"bookworm",
}

// rootFS returns the root file system, which is made once and kept in the user's cache directory,
// one for each recipe. Only the first of several processes makes it; the others wait for it.
func rootFS(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("looking for a cache directory: %w", err)
	}
	sum := sha256.Sum256([]byte(strings.Join(recipe[:], "\n")))
	root := filepath.Join(cache, "credagent-test", "debian-"+hex.EncodeToString(sum[:8]))
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(root+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close() // and release
	if err := flock(lock); err != nil {
		return "", fmt.Errorf("locking %q: %w", lock.Name(), err)
	}
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	return root, debootstrap(ctx, root)
}

func flock(file *os.File) error {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// debootstrap makes the root file system beside its place first, so that half of one is never used.
func debootstrap(ctx context.Context, root string) error {
	partial := root + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "mmdebstrap", append(recipe[:len(recipe):len(recipe)], partial)...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("making a Debian in %q: %w\n%s", partial, err, said)
	}
	return os.Rename(partial, root)
}
