//go:build !unix

package store

import "io/fs"

// On this system a mode does not show permissions, so nothing is refused because of it.

func checkDirectory(string, fs.FileInfo) error { return nil }

func checkKeyFile(string, fs.FileInfo) error { return nil }
