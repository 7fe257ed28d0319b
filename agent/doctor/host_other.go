//go:build !linux

package doctor

import (
	"context"
	"io/fs"
)

// These checks exist on Linux only; elsewhere they report nothing.

func fileSystemOf(string) fileSystem { return fileSystem{} }

func accessACL(string) []byte { return nil }

func ownerIn(fs.FileInfo) (owner, bool) { return owner{}, false }

func watched(_ string, change func() error) (bool, error) { return true, change() }

func maySignal(int) bool { return true }

func (e *exam) kernel(context.Context) []Finding { return nil }
