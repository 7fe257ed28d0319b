// Command release makes what goes with a built credagent into a release: its manual pages, its bill
// of materials and the licences of what is linked into it, and strips it. What it says of the binary is read out of the
// binary itself, so that they cannot tell of another; version and notes are read out of CHANGELOG.md.
// Caveat: it starts that binary, which therefore must be for this machine, and the licences must be in
// Go's module cache.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

const usage = `usage: release version                print the version, which is the newest of CHANGELOG.md
       release notes                  print what CHANGELOG.md says of it
       release man BINARY DIRECTORY   write the manual pages, gzip does the rest
       release sbom VERSION BINARY    print a CycloneDX bill of materials
       release notices BINARY         print the licences of everything linked in
       release strip BINARY           remove the symbols of a program for Linux that it does not need
       release zip DIRECTORY TOP      print a zip archive of a directory, below the directory TOP`

var errUsage = errors.New(usage)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	switch {
	case len(args) == 3 && args[0] == "man":
		return writeManual(args[1], args[2])
	case len(args) == 1 && args[0] == "version":
		return writeVersion(out)
	case len(args) == 1 && args[0] == "notes":
		return writeNotes(out)
	case len(args) == 3 && args[0] == "zip":
		return writeZip(args[1], args[2], out)
	case len(args) == 3 && args[0] == "sbom":
		return writeSBOM(args[1], args[2], out)
	case len(args) == 2 && args[0] == "strip":
		return strip(args[1])
	case len(args) == 2 && args[0] == "notices":
		return writeNotices(args[1], out)
	}
	return errUsage
}
