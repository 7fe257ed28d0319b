//go:build !linux

package sink

import "os"

// sight is nothing here: the file is read to know what it is.
type sight struct{}

func look(*os.File) *sight { return nil }

func (*sight) again(string) bool { return false }
