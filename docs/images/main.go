// Command images draws the diagrams of the documents as SVG. It promises the same bytes from the same
// source, which a test compares with what is committed. Caveat: it measures no text, so whoever changes
// a line has to look at the picture.
package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: images DIRECTORY")
		os.Exit(64)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

// diagrams are the files with what draws them.
func diagrams() map[string]string {
	return map[string]string{"flow.svg": flow(), "life.svg": life(), "pod.svg": pod(), "which.svg": which()}
}

func write(dir string) error {
	all := diagrams()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(all[name]), 0o644); err != nil {
			return err
		}
	}
	return nil
}
