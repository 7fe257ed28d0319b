//go:build !linux

package sink

import "os"

// fileStamp is unused here: the file is read to detect changes.
type fileStamp struct{}

func stampOf(*os.File) *fileStamp { return nil }

func (*fileStamp) matches(string) bool { return false }
