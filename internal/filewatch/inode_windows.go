package filewatch

import "io/fs"

// inode is not available in Windows' file information; size and time have to suffice.
func inode(fs.FileInfo) string { return "" }
