//go:build !unix

package api

import "io/fs"

// isOurs cannot tell here; the directory's permissions have to do.
func isOurs(fs.FileInfo) bool { return true }

// groupOf knows of no groups here.
func groupOf(fs.FileInfo) string { return "" }
