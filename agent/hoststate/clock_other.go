//go:build !linux

package hoststate

// SystemClock returns nil: there is no clock since boot on this system, so only the wall clock measures waits across
// processes.
func SystemClock() Clock { return nil }
