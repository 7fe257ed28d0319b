//go:build !unix

package main

// ownerOf cannot tell on this system.
func ownerOf(string) (uid int, ok bool) { return 0, false }

// placedBy cannot tell on this system.
func placedBy(string) (uid int, ok bool) { return 0, false }
