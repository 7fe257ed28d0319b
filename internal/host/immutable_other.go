//go:build !linux

package host

// IsImmutable does not know here.
func IsImmutable(string) bool { return false }
