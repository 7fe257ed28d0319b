//go:build !unix

package api

import "io/fs"

// isOurs cannot tell on this system; the directory's permissions have to suffice.
func isOurs(fs.FileInfo) bool { return true }

// groupOf returns none: this system has no groups.
func groupOf(fs.FileInfo) string { return "" }
