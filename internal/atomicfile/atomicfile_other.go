//go:build !unix

package atomicfile

import "os"

const openFlags = 0

// SyncDirectory does nothing: directories cannot be synced here.
func SyncDirectory(*os.Root) error { return nil }
