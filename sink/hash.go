package sink

import "hash/maphash"

// hasher is seeded so that hashes of one process are meaningless to another.
var hasher = maphash.MakeSeed()

// hashOf returns a hash to distinguish contents; it is never 0.
func hashOf(content []byte) uint64 { return max(1, maphash.Bytes(hasher, content)) }
