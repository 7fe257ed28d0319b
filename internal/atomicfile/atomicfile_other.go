//go:build !unix

package atomicfile

import "os"

const openFlags = 0

// SyncDirectory does nothing: directories cannot be synced here.
func SyncDirectory(*os.Root) error { return nil }

func hold(*os.File) {}

func isAbandoned(*os.Root, string, int) bool { return false }
