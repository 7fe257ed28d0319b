//go:build !unix

package lockfile

import "os"

func lockByte(*os.File, int64) error { return nil }

func unlockByte(*os.File, int64) {}

// TryExclusive always reports true: this system has no such locks.
func TryExclusive(*os.File) bool { return true }
