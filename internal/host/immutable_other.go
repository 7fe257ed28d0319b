//go:build !linux

package host

// IsImmutable cannot tell on this system.
func IsImmutable(string) bool { return false }
