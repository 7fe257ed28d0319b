package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// changelog is read from the working directory, the root of the checkout.
const changelog = "CHANGELOG.md"

var errNoRelease = errors.New(`no heading "## [VERSION] - DATE"`)

// newest returns the version and the notes of a changelog's first dated release. What is listed
// under "Unreleased" above it is not part of it.
func newest(text string) (version, notes string, err error) {
	dated := regexp.MustCompile(`^## \[(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)\] - \d{4}-\d{2}-\d{2}$`)
	var body strings.Builder
	for line := range strings.Lines(text) {
		match := dated.FindStringSubmatch(strings.TrimSpace(line))
		switch {
		case match != nil && version == "":
			version = match[1]
		case version != "" && strings.HasPrefix(line, "## "):
			return version, strings.TrimSpace(body.String()), nil
		case version != "":
			body.WriteString(line)
		}
	}
	if version == "" {
		return "", "", errNoRelease
	}
	return version, strings.TrimSpace(body.String()), nil
}

func readNewest() (version, notes string, err error) {
	text, err := os.ReadFile(changelog)
	if err != nil {
		return "", "", err
	}
	version, notes, err = newest(string(text))
	if err != nil {
		return "", "", fmt.Errorf("reading %q: %w", changelog, err)
	}
	return version, notes, nil
}

// writeVersion prints the version that is released.
func writeVersion(out io.Writer) error {
	version, _, err := readNewest()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, version)
	return err
}

// writeNotes prints what is new in it.
func writeNotes(out io.Writer) error {
	version, notes, err := readNewest()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "# credagent %s\n\n%s\n", version, notes)
	return err
}
