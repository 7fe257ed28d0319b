//go:build !unix

package credfile

const openFlags = 0
