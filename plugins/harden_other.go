//go:build !linux

package plugins

// harden does nothing: the system cannot refuse a debugger for a single process.
func harden() error { return nil }

// endByOneself does nothing: the kernel does not end a process with its parent.
func endByOneself() {}

// endGroup does nothing: a provider does not lead a group.
func endGroup() {}
